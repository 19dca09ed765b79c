"""The probe of what the vendors do not document: `python -m destination_bulk_tables.probe`."""
