package operand

import (
	"encoding/json"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
)

// RestoreJobName returns the name of the Job of a NotesRestore.
func RestoreJobName(nr *v1alpha1.NotesRestore) string {
	return nr.Spec.SecureNotesRef.Name + "-restore-" + shortHash(string(nr.UID))
}

// RestoreDestination returns where the backup of a NotesRestore is, or nil if neither the
// NotesRestore nor the SecureNotes says.
func RestoreDestination(nr *v1alpha1.NotesRestore, sn *v1alpha1.SecureNotes) *v1alpha1.BackupDestination {
	switch {
	case nr.Spec.Destination != nil:
		return nr.Spec.Destination
	case sn.Spec.Backup != nil:
		return &sn.Spec.Backup.Destination
	default:
		return nil
	}
}

// RestoreAccount returns the service account of restore Jobs. The NotesRestore controls it, because
// Vault lets it create peppers: it exists only while the restore runs.
func RestoreAccount(nr *v1alpha1.NotesRestore, sn *v1alpha1.SecureNotes) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{
		ObjectMeta: restoreMeta(nr, sn, RestoreServiceAccount(sn.Name)), AutomountServiceAccountToken: new(false),
	}
}

func restoreMeta(nr *v1alpha1.NotesRestore, sn *v1alpha1.SecureNotes, name string) metav1.ObjectMeta {
	object := meta(sn, name, ComponentRestore)
	object.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(nr, v1alpha1.GroupVersion.WithKind("NotesRestore"))}
	return object
}

// RestoreJob returns the Job of a NotesRestore, which has a [RestoreDestination]. configMap is the
// name of [RestoreConfigMap]. It requests as much CPU as the API, which does not run meanwhile.
func RestoreJob(nr *v1alpha1.NotesRestore, sn *v1alpha1.SecureNotes, env Environment, configMap string) *batchv1.Job {
	spec, c := podSpec(sn, env, RestoreServiceAccount(sn.Name)), container(sn, env, JobContainer, restoration(nr).Args()...)
	nameConfigMap(spec.Volumes, configMap)
	volumes, mounts := destinationVolumes(*RestoreDestination(nr, sn))
	for i := range mounts {
		mounts[i].ReadOnly = true
	}
	spec.Volumes, c.VolumeMounts = append(spec.Volumes, volumes...), append(c.VolumeMounts, mounts...)
	addIdentity := func(volume string, ref v1alpha1.SecretKeyReference, directory string) {
		spec.Volumes = append(spec.Volumes, secretKeyVolume(volume, ref, config.IdentityFile))
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: volume, MountPath: directory, ReadOnly: true})
	}
	addIdentity("identity", nr.Spec.IdentitySecretRef, config.IdentityDirectory)
	if ref := nr.Spec.EscrowIdentitySecretRef; ref != nil {
		addIdentity("escrow-identity", *ref, config.EscrowIdentityDirectory)
	}
	return jobOf(sn, restoreMeta(nr, sn, RestoreJobName(nr)), 1, spec, c)
}

func restoration(nr *v1alpha1.NotesRestore) config.Restoration {
	return config.Restoration{
		ID: nr.Spec.ID, PublicKeys: nr.Spec.PublicKeys != nil, FromEscrow: nr.Spec.EscrowIdentitySecretRef != nil,
		Older: nr.Spec.Older, AcceptDamaged: nr.Spec.AcceptDamaged, Overwrite: nr.Spec.Overwrite, AcceptSHA256: nr.Spec.AcceptSHA256,
	}
}

// RestoreConfigMap returns the configuration of the Job of a NotesRestore. Its name has a hash of
// the NotesRestore and of the content, so that a Job keeps the configuration that it was created
// for. Error: the configuration is invalid; it names the field.
func RestoreConfigMap(nr *v1alpha1.NotesRestore, sn *v1alpha1.SecureNotes, env Environment) (*corev1.ConfigMap, error) {
	restore, err := config.Marshal(restoreConfig(nr, sn, env))
	if err != nil {
		return nil, fmt.Errorf("configuration of the restore: %w", err)
	}
	data := map[string]string{config.RestoreFile: string(restore)}
	if env.Connection.CABundle != "" {
		data[config.VaultCAFile] = env.Connection.CABundle
	}
	if nr.Spec.PublicKeys != nil {
		keys, err := json.Marshal(nr.Spec.PublicKeys)
		if err != nil {
			return nil, fmt.Errorf("spec.publicKeys: %w", err)
		}
		data[config.PublicKeysFile] = string(keys)
	}
	name := sn.Name + "-restore-" + hashOfData(string(nr.UID), data)
	return &corev1.ConfigMap{ObjectMeta: restoreMeta(nr, sn, name), Immutable: new(true), Data: data}, nil
}

func restoreConfig(nr *v1alpha1.NotesRestore, sn *v1alpha1.SecureNotes, env Environment) *config.Config {
	c := baseConfig(sn, env, config.RoleRestore)
	c.Keys.Vault.BackupKey = config.BackupKeyName(env.ClusterID, sn.Namespace, sn.Name)
	c.Keys.Vault.Pepper, c.Keys.Vault.PepperDigest = env.Pepper, env.PepperDigest
	c.Backup = &config.Backup{SecureNotesUID: string(sn.UID), Destination: destination(*RestoreDestination(nr, sn))}
	return c
}
