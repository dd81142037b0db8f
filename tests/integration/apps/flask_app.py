"""A Flask application that speaks: one client for the program, plain calls in the views."""

from __future__ import annotations

import os

from flask import Flask, Response, request

from cosyclient import BadUtterance, CosyClient
from tests.integration.apps.warming import warmed

app = Flask(__name__)
client = CosyClient(requests_per_second=50)
warmed_in = warmed(client)


@app.post("/say")
def say() -> Response:
    """Answer with the speech of the posted text."""
    speech = client.synthesize(request.get_data(as_text=True))
    return Response(
        speech.audio, mimetype=speech.media_type, headers={"X-Worker": str(os.getpid()), "X-Warmed-In": warmed_in}
    )


@app.errorhandler(BadUtterance)
def refuse(error: BadUtterance) -> tuple[str, int]:
    """Answer with what is wrong with the text."""
    return str(error), 400
