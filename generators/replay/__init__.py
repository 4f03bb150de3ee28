"""A real shop's invoices as events."""
