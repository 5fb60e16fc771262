"""Help for real federations: certificates, keys, and example sites to try one with."""
