"""The entry point under the name that Airbyte's tools look for; it is the console script's."""

from destination_bulk_tables.run import run

if __name__ == "__main__":
    run()
