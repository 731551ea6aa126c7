package config

// RestoreReport is what a restore Job says of a complete restore, as a part of its [Termination].
type RestoreReport struct {
	// ID of the backup.
	ID string `json:"id"`
	// DeploymentID is what the database has now.
	DeploymentID string `json:"deploymentID"`
	// Rows of all tables, and of two of them.
	Rows     int64 `json:"rows"`
	Notes    int64 `json:"notes"`
	Accounts int64 `json:"accounts"`
	// FromEscrow reports whether keys and peppers are from the escrow. Then PepperEntry is the new
	// entry in Vault with its peppers, and PepperDigest the [Pepper.Digest] of it.
	FromEscrow   bool   `json:"fromEscrow,omitempty"`
	PepperEntry  string `json:"pepperEntry,omitempty"`
	PepperDigest string `json:"pepperDigest,omitempty"`
	// Fence is the least version of the master key that the database accepts.
	Fence int `json:"fence"`
	// Damaged is the number of values that were restored and cannot be decrypted.
	Damaged int64 `json:"damaged,omitempty"`
}
