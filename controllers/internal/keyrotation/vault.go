package keyrotation

import (
	"context"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/secretrecord"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// Vault is what a rotation needs of Vault.
type Vault interface {
	Connection() vaultadmin.Connection
	ReadKey(ctx context.Context, key string) (vaultadmin.KeyState, error)
	Rotate(ctx context.Context, d vaultadmin.Deployment) error
	RaiseMinEncryption(ctx context.Context, d vaultadmin.Deployment, version int64) error
	ReplaceSessionKeys(ctx context.Context, d vaultadmin.Deployment, version int64) error
	RevokeDatabaseCredentials(ctx context.Context, d vaultadmin.Deployment) error
	LatestBackupKey(ctx context.Context, d vaultadmin.Deployment) (int64, error)
	ReplaceBackupKey(ctx context.Context, d vaultadmin.Deployment, from int64) (latest int64, err error)
	DeleteOtherSessionKeys(ctx context.Context, d vaultadmin.Deployment, replaced string) error
}

// vaultOf returns the client of the Vault connection of a SecureNotes.
func (r *Reconciler) vaultOf(parent *v1alpha1.SecureNotes) (Vault, error) {
	if err := operand.CheckClusterID(parent, r.Environment.ClusterID); err != nil {
		return nil, err
	}
	name := operand.VaultConnection(parent)
	vault, ok := r.Vault(name)
	if !ok {
		return nil, vaultadmin.UnknownConnectionError(name)
	}
	return vault, nil
}

// keysOf returns where the keys of a SecureNotes are in Vault.
func (r *Reconciler) keysOf(parent *v1alpha1.SecureNotes) vaultadmin.Deployment {
	clusterID := r.Environment.ClusterID
	return vaultadmin.Deployment{
		Key:       config.TransitKeyName(clusterID, parent.Namespace, parent.Name),
		BackupKey: config.BackupKeyName(clusterID, parent.Namespace, parent.Name),
		Directory: config.KVPath(clusterID, parent.Namespace, parent.Name),
		UID:       string(parent.UID), ClusterUID: r.Environment.ClusterUID,
		DeploymentID: parent.Status.DeploymentID,
		DatabaseRole: config.DatabaseRoleName(clusterID, parent.Namespace, parent.Name),
		Secrets:      secretrecord.Get(&parent.Status),
	}
}

func (r *Reconciler) readKey(ctx context.Context, parent *v1alpha1.SecureNotes) (vaultadmin.KeyState, error) {
	vault, err := r.vaultOf(parent)
	if err != nil {
		return vaultadmin.KeyState{}, err
	}
	return vault.ReadKey(ctx, r.keysOf(parent).Key)
}

// setupAdvice returns what to do about rights that are missing in Vault. It is empty if the
// connection is unknown.
func (r *Reconciler) setupAdvice(parent *v1alpha1.SecureNotes) string {
	vault, err := r.vaultOf(parent)
	if err != nil {
		return ""
	}
	return ": the Vault administrator must run `" + r.SetupCommand(vault.Connection(), parent) + "`"
}
