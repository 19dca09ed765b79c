"""What the config may hold, as Airbyte's form shows it: data only.

`fields` makes single fields, `tables` and `delivery` are the parts every provider shares, and
`connection` puts these and the providers' own forms together. What a filled-in form means is
decided in `config` and in the providers.
"""
