"""What a trained run says: the judged design, its report, and the callback that writes it."""
