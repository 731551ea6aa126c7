// Package secretrecord reads and writes the fields of a SecureNotes status that record its secrets
// in Vault. The reconcilers of both kinds write them. Each guards its write against a status that
// has changed since.
package secretrecord

import (
	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// Get returns the secrets that the status records.
func Get(status *v1alpha1.SecureNotesStatus) vaultadmin.Secrets {
	return vaultadmin.Secrets{
		SessionKeys:     vaultadmin.Secret{Entry: status.SessionKeys, Digest: status.SessionKeysDigest},
		NextSessionKeys: read(status.NextSessionKeys),
		Pepper:          read(status.Pepper),
	}
}

// Set records the secrets in the status.
func Set(status *v1alpha1.SecureNotesStatus, secrets vaultadmin.Secrets) {
	status.SessionKeys, status.SessionKeysDigest = secrets.SessionKeys.Entry, secrets.SessionKeys.Digest
	status.NextSessionKeys = write(secrets.NextSessionKeys)
	status.Pepper = write(secrets.Pepper)
}

func read(r *v1alpha1.RecordedSecret) vaultadmin.Secret {
	if r == nil {
		return vaultadmin.Secret{}
	}
	return vaultadmin.Secret{Entry: r.Entry, Digest: r.Digest}
}

func write(s vaultadmin.Secret) *v1alpha1.RecordedSecret {
	if s == (vaultadmin.Secret{}) {
		return nil
	}
	return &v1alpha1.RecordedSecret{Entry: s.Entry, Digest: s.Digest}
}
