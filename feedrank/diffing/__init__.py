"""`feedrank diff`: what is known of the users whose feeds changed most, and how it is shown."""
