"""What several protocols read in replies: errors, headers, items, audio."""
