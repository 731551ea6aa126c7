# The policy of the operator as the previous release wrote it, for a cluster whose id is CLUSTER.
# The operator: makes, rotates and retires keys of its cluster; uses and exports none.
path "transit/keys/sn-CLUSTER.*" {
  capabilities = ["create", "read", "update", "delete"]
  allowed_parameters = {
    "type"                   = ["aes256-gcm96"]
    "derived"                = [true]
    "exportable"             = [false]
    "allow_plaintext_backup" = [false]
    "min_decryption_version" = []
    "min_encryption_version" = []
    "deletion_allowed"       = []
  }
}
path "transit/keys/sn-audit-CLUSTER.*" {
  capabilities = ["create", "read", "update", "delete"]
  allowed_parameters = {
    "type"                   = ["ed25519"]
    "exportable"             = [false]
    "allow_plaintext_backup" = [false]
    "deletion_allowed"       = []
  }
}
# Session keys and pepper: created once, never read, never overwritten.
path "secret/data/securenotes/CLUSTER/+/+/session-keys*" { capabilities = ["create"] }
path "secret/data/securenotes/CLUSTER/+/+/pepper" { capabilities = ["create"] }
path "secret/data/securenotes/CLUSTER/+/+/marker" { capabilities = ["create", "read", "update"] }
# Metadata holds versions and times, no values; it is deleted with deletionPolicy Delete, and of session
# keys after they were replaced.
path "secret/metadata/securenotes/CLUSTER/+/+/session-keys*" { capabilities = ["read", "delete"] }
path "secret/metadata/securenotes/CLUSTER/+/+/pepper" { capabilities = ["read", "delete"] }
path "secret/metadata/securenotes/CLUSTER/+/+/marker" { capabilities = ["read", "delete"] }
path "auth/token/renew-self" { capabilities = ["update"] }
