"""Commands that write what is committed but follows from code: pages of docs/ and pictures."""
