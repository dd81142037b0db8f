"""What several protocols read in replies: errors, headers, batch items, samples, uploads."""
