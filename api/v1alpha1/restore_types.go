package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// NotesRestore restores one backup into the database of a SecureNotes, once. Meanwhile the
// SecureNotes stands still: no API pod runs, and no rotation, retirement or backup starts. A
// restore that fails leaves a message with the next step. To try again, create another one.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=notesrestores,singular=notesrestore,shortName=nr,categories=all
// +kubebuilder:printcolumn:name="SecureNotes",type=string,JSONPath=`.spec.secureNotesRef.name`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.reason`
// +kubebuilder:printcolumn:name="Notes",type=integer,JSONPath=`.status.notes`
// +kubebuilder:printcolumn:name="Seconds",type=integer,JSONPath=`.status.durationSeconds`
// +kubebuilder:printcolumn:name="Backup",type=string,JSONPath=`.spec.id`
// +kubebuilder:printcolumn:name="Deployment",type=string,JSONPath=`.status.deploymentID`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NotesRestore struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard metadata of an object.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the restore that is requested. It cannot be changed.
	// +required
	Spec NotesRestoreSpec `json:"spec,omitzero"`

	// status is the state of the restore.
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status NotesRestoreStatus `json:"status,omitempty,omitzero"`
}

// NotesRestoreSpec is the restore that is requested.
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the spec of a NotesRestore cannot be changed: create another NotesRestore"
// +kubebuilder:validation:XValidation:rule="!has(self.destination) || !has(self.destination.persistentVolumeClaim) || self.destination.persistentVolumeClaim.claimName != self.secureNotesRef.name + '-data'",message="destination.persistentVolumeClaim cannot be the volume of the embedded database, which the restore fills: name the claim that has the backup"
type NotesRestoreSpec struct {
	// secureNotesRef names the SecureNotes in the same namespace whose database is filled.
	// +required
	SecureNotesRef LocalObjectReference `json:"secureNotesRef,omitzero"`

	// id is the id of the backup, such as 20261130T013000Z-k3v7m2qx5jd4w6ra. A NotesBackup has it
	// in status.id.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[0-9]{8}T[0-9]{6}Z-[a-z2-7]{16}$`
	// +required
	ID string `json:"id,omitempty"`

	// destination is where the backup is. If unset, it is spec.backup.destination of the
	// SecureNotes.
	// +optional
	Destination *BackupDestination `json:"destination,omitempty"`

	// identitySecretRef names the key of a Secret with the age identity that opens the archive, as
	// age-keygen writes it. Delete the Secret after the restore. Anyone who can read Secrets in the
	// namespace can copy the identity: use one that opens only a copy of this backup, which
	// `securenotes backup rekey` makes and which lies beside the backup.
	// +required
	IdentitySecretRef SecretKeyReference `json:"identitySecretRef,omitzero"`

	// escrowIdentitySecretRef names the key of a Secret with the age identity that opens the escrow
	// file. If set, the keys and the peppers come from the escrow file, and nothing of the Vault of
	// the backup is needed. The SecureNotes takes over the deployment ID of the backup. If unset,
	// the backup must be of this SecureNotes, and Vault must have the versions of the master key
	// that it needs.
	// +optional
	EscrowIdentitySecretRef *SecretKeyReference `json:"escrowIdentitySecretRef,omitempty"`

	// publicKeys are the public keys to verify the backup with, as status.backupKeys of the
	// SecureNotes had them when you saved them. If unset, they are those in Vault.
	// +optional
	PublicKeys *BackupKeysStatus `json:"publicKeys,omitempty"`

	// older restores the backup although the destination has a newer one. What was written since
	// the backup is lost. Defaults to false.
	// +optional
	Older bool `json:"older,omitempty"`

	// acceptSHA256 is the SHA-256 of the manifest, in hexadecimal, from a record that you trust
	// such as status.manifestSHA256 of the NotesBackup. It accepts the backup although a Compromise
	// has replaced the key that signed it. If unset, such a backup is refused, because a thief of
	// the key could have made it.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{64}$`
	// +optional
	AcceptSHA256 string `json:"acceptSHA256,omitempty"`

	// acceptDamaged restores the backup although some of its values cannot be decrypted. The
	// service cannot show these values afterwards. If false, such a backup is refused. Defaults to
	// false.
	// +optional
	AcceptDamaged bool `json:"acceptDamaged,omitempty"`

	// overwrite deletes every account and every note that the database has, once the backup is
	// verified. Nothing brings them back but another backup. If false, a database with accounts is
	// refused. Defaults to false.
	// +optional
	Overwrite bool `json:"overwrite,omitempty"`
}

// NotesRestoreStatus is the state of a restore. The operator records here what a step relies on
// before the step, and the result afterwards, so that a restarted operator continues where the
// previous one stopped.
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.deploymentID) || has(self.deploymentID) && self.deploymentID == oldSelf.deploymentID",message="deploymentID cannot be changed once it is set"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.pepper) || has(self.pepper) && self.pepper == oldSelf.pepper",message="pepper cannot be changed once it is set"
type NotesRestoreStatus struct {
	// observedGeneration is the generation of the spec that this status describes.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// state summarizes the progress in one word: Queued, Stopping, Restoring, Recording, Complete
	// or Failed. Restored means that the restore had ended when another tool restored this object
	// without its status. It does not start again.
	// +kubebuilder:validation:MaxLength=32
	// +optional
	State string `json:"state,omitempty"`

	// reason is why the restore waits or has failed. It is the reason of the condition Reconciling
	// or Failed. If unset, state tells enough.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Reason string `json:"reason,omitempty"`

	// secureNotesUID is the UID of the SecureNotes that stands still for the restore. Unset until
	// it is certain that no rotation, no backup and no other restore of the SecureNotes runs.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	SecureNotesUID string `json:"secureNotesUID,omitempty"`

	// jobUID is the UID of the Job that the operator created. It trusts no other Job.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	JobUID string `json:"jobUID,omitempty"`

	// jobDigest is the SHA-256 of the spec of the Job when the Job was created. If the spec differs
	// when the Job completes, the operator does not trust the Job.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	JobDigest string `json:"jobDigest,omitempty"`

	// startTime is when the restore started. Unset while it is queued.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// completionTime is when the restore ended, Complete or Failed.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`

	// durationSeconds is the time from startTime to completionTime in seconds.
	// +optional
	DurationSeconds int64 `json:"durationSeconds,omitempty"`

	// deploymentID is the deployment ID that the database now has, and that the SecureNotes takes
	// over. It is set once, when the Job is complete.
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`
	// +kubebuilder:validation:MaxLength=64
	// +optional
	DeploymentID string `json:"deploymentID,omitempty"`

	// pepper is the Vault entry that the Job created for the peppers of the escrow file. The
	// SecureNotes takes it over. It is set once, with deploymentID. Unset after a restore without
	// the escrow, which changes no pepper.
	// +optional
	Pepper *RecordedSecret `json:"pepper,omitempty"`

	// fromEscrow is true if the keys are from the escrow file.
	// +optional
	FromEscrow bool `json:"fromEscrow,omitempty"`

	// rows is the number of rows that were restored, in all tables.
	// +optional
	Rows int64 `json:"rows,omitempty"`

	// notes is the number of notes that were restored.
	// +optional
	Notes int64 `json:"notes,omitempty"`

	// accounts is the number of accounts that were restored.
	// +optional
	Accounts int64 `json:"accounts,omitempty"`

	// damaged is the number of values that were restored and cannot be decrypted. It is 0 unless
	// spec.acceptDamaged is true.
	// +optional
	Damaged int64 `json:"damaged,omitempty"`

	// rotation is the name of the KeyRotation that re-encrypts the restored notes. It starts when
	// the restore has ended.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Rotation string `json:"rotation,omitempty"`

	// conditions are the observed conditions of the restore: Complete from the first
	// reconciliation. Reconciling, Stalled, Failed and Restored are present only while they are
	// True.
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// NotesRestoreList is a list of NotesRestores.
// +kubebuilder:object:root=true
type NotesRestoreList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NotesRestore `json:"items"`
}
