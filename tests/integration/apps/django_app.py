"""A Django project in one file that speaks: one client for the program, plain calls in the views."""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

from cosyclient import BadUtterance, CosyClient
from tests.integration.apps.warming import warmed

settings.configure(ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__, SECRET_KEY="not a secret", USE_TZ=True)

client = CosyClient(requests_per_second=50)
warmed_in = warmed(client)


def say(request: Any) -> Any:
    """Answer with the speech of the posted text."""
    try:
        speech = client.synthesize(request.body.decode())
    except BadUtterance as error:
        return HttpResponse(str(error), status=400)
    return HttpResponse(
        speech.audio,
        content_type=speech.media_type,
        headers={"X-Worker": str(os.getpid()), "X-Warmed-In": warmed_in},
    )


urlpatterns = [path("say", say)]
app = get_wsgi_application()
