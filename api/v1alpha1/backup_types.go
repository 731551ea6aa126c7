package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BackupPolicy determines how a SecureNotes is backed up.
type BackupPolicy struct {
	// schedule is when a backup is made, in Cron format, such as "0 2 * * *", or @daily. If unset,
	// backups are made only on request: by a NotesBackup object or the annotation
	// securenotes.dev/backup-requested-at. If times are missed because suspend was set or the
	// operator was down, one backup makes up for all of them. A new or changed schedule or time
	// zone counts from when the operator first sees it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=100
	// +optional
	Schedule string `json:"schedule,omitempty"`

	// timeZone is the IANA time zone of the schedule, such as Europe/Berlin. When clocks are put
	// forward, a time that is skipped runs right after the change. When clocks are put back, a time
	// that occurs twice runs only the first time. Defaults to Etc/UTC.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[A-Za-z][-+_/A-Za-z0-9]*$`
	// +optional
	TimeZone string `json:"timeZone,omitempty"`

	// suspend stops the schedule, and the backup after each rotation of the master key. Backups on
	// request are still made. Defaults to false.
	// +optional
	Suspend *bool `json:"suspend,omitempty"`

	// recipients are the age recipients that can open an archive, 1 to 16. All have the form age1…
	// or all the form age1pq1…, because age refuses a mixture. Keep their identities, the private
	// halves, outside the cluster.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(r, r.startsWith('age1pq1')) || !self.exists(r, r.startsWith('age1pq1'))",message="recipients must all have the form age1… or all the form age1pq1…, because age refuses a mixture: use one form"
	// +listType=set
	// +required
	Recipients []AgeRecipient `json:"recipients,omitempty"`

	// escrow adds a second file to each backup, with the owner keys and the peppers. With it, and
	// with the identity of one of its recipients, a backup can be restored without Vault and into
	// another cluster, namespace or name. The holder of such an identity can read every note.
	// +optional
	Escrow *BackupEscrow `json:"escrow,omitempty"`

	// destination is where backups are stored.
	// +required
	Destination BackupDestination `json:"destination,omitzero"`

	// keep determines which backups are deleted. If unset, none are: leave that to a lifecycle rule
	// of the bucket, or delete files by hand. The operator also deletes the NotesBackups of deleted
	// backups, except those that a person created: they stay Complete without files.
	// +optional
	Keep *BackupKeep `json:"keep,omitempty"`

	// drill tests the newest backup regularly. If unset, it does so with default settings. The
	// drill needs an age identity of its own in Vault, which opens the archives; their values stay
	// encrypted under the master key.
	// +optional
	Drill *BackupDrill `json:"drill,omitempty"`
}

// AgeRecipient is a public key of the program age: X25519 (age1…), or the hybrid of X25519 and
// ML-KEM-768 (age1pq1…).
// +kubebuilder:validation:MinLength=62
// +kubebuilder:validation:MaxLength=2007
// +kubebuilder:validation:Pattern=`^age1(pq1[02-9ac-hj-np-z]{1000}[02-9ac-hj-np-z]{900,1000}|[02-9ac-hj-np-z]{58})$`
type AgeRecipient string

// BackupEscrow names who can restore without Vault.
type BackupEscrow struct {
	// recipients are the age recipients that can open the escrow file, 1 to 16, as in the archive's
	// recipients. They should be other people than those.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(r, r.startsWith('age1pq1')) || !self.exists(r, r.startsWith('age1pq1'))",message="escrow.recipients must all have the form age1… or all the form age1pq1…, because age refuses a mixture: use one form"
	// +listType=set
	// +required
	Recipients []AgeRecipient `json:"recipients,omitempty"`
}

// BackupDestination is where backups are stored. Exactly one field must be set.
// +kubebuilder:validation:XValidation:rule="has(self.objectStore) != has(self.persistentVolumeClaim)",message="backup.destination needs exactly one of objectStore and persistentVolumeClaim"
type BackupDestination struct {
	// objectStore is a part of a bucket of S3, or of what has the same protocol.
	// +optional
	ObjectStore *ObjectStore `json:"objectStore,omitempty"`

	// persistentVolumeClaim is a volume.
	// +optional
	PersistentVolumeClaim *BackupVolume `json:"persistentVolumeClaim,omitempty"`
}

// ObjectStore is a part of a bucket.
type ObjectStore struct {
	// url is https://HOST/BUCKET, with /PREFIX or ?region=REGION after it where needed. Several
	// SecureNotes can use one bucket and prefix.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^https://[a-z0-9]([-a-z0-9.]{0,253}[a-z0-9])?(:[0-9]{1,5})?/[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[-A-Za-z0-9._/]{0,200})?(\?region=[-a-z0-9]{1,63})?$`
	// +required
	URL string `json:"url,omitempty"`

	// credentialsSecretRef names a Secret with the keys access-key-id and secret-access-key, and
	// optionally session-token. If unset, the web identity of the pod's service account is used.
	// +optional
	CredentialsSecretRef *LocalObjectReference `json:"credentialsSecretRef,omitempty"`

	// caSecretRef names the key of a Secret with the PEM certificates of the authorities that the
	// server's certificate must chain to. If unset, they are the usual public ones.
	// +optional
	CASecretRef *SecretKeyReference `json:"caSecretRef,omitempty"`
}

// BackupVolume is a volume that stores backups.
type BackupVolume struct {
	// claimName is the name of a PersistentVolumeClaim in the same namespace that you created.
	// Backups are in its directory securenotes-backups. Several SecureNotes can use one claim.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	// +required
	ClaimName string `json:"claimName,omitempty"`
}

// BackupKeep determines which backups are kept. A backup is deleted if it is neither among the
// newest count nor younger than age. The newest backup is always kept.
// +kubebuilder:validation:XValidation:rule="has(self.count) || has(self.age)",message="keep needs count, age or both: set one, or remove keep to delete no backup"
type BackupKeep struct {
	// count is the number of newest backups that are kept, from 1 to 1000.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +optional
	Count *int32 `json:"count,omitempty"`

	// age is how long a backup is kept, from 1h to 87600h, in hours, minutes and seconds.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1h') && duration(self) <= duration('87600h')",message="keep.age must be 1h to 87600h"
	// +optional
	Age Duration `json:"age,omitempty"`
}

// BackupStatus is what the operator knows about the backups of a SecureNotes.
type BackupStatus struct {
	// observedSchedule is the backup schedule that the operator last saw.
	// +optional
	ObservedSchedule *ObservedSchedule `json:"observedSchedule,omitempty"`

	// lastScheduleTime is the last scheduled time that the operator handled.
	// +optional
	LastScheduleTime *metav1.Time `json:"lastScheduleTime,omitempty"`

	// nextTime is the next scheduled backup.
	// +optional
	NextTime *metav1.Time `json:"nextTime,omitempty"`

	// lastHandledRequest is the value of the annotation securenotes.dev/backup-requested-at that
	// the operator last handled.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	LastHandledRequest string `json:"lastHandledRequest,omitempty"`

	// handledRequests is the number of values of the annotation
	// securenotes.dev/backup-requested-at that the operator has handled. It lets a value that is
	// used again request another backup.
	// +optional
	HandledRequests int64 `json:"handledRequests,omitempty"`

	// handledRotation is the version of the master key whose rotation was last followed by a
	// backup.
	// +kubebuilder:validation:Minimum=0
	// +optional
	HandledRotation int64 `json:"handledRotation,omitempty"`

	// last is the newest complete backup.
	// +optional
	Last *LastBackup `json:"last,omitempty"`

	// destination is what the newest complete backup found in the destination. It counts only the
	// valid backups of this SecureNotes.
	// +optional
	Destination *BackupDestinationStatus `json:"destination,omitempty"`

	// drill is what the operator knows about the drills.
	// +optional
	Drill *DrillStatus `json:"drill,omitempty"`
}

// LastBackup is the newest complete backup of a SecureNotes. NotesBackup has more about it.
type LastBackup struct {
	// name is the name of the NotesBackup.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Name string `json:"name,omitempty"`

	// completionTime is when the backup ended.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`

	BackupResult `json:",inline"`
}

// BackupDestinationStatus is a listing of the destination. It counts only backups of this
// SecureNotes whose signature is valid.
type BackupDestinationStatus struct {
	// observedTime is when the destination was listed.
	// +optional
	ObservedTime *metav1.Time `json:"observedTime,omitempty"`

	// backups is the number of backups.
	// +optional
	Backups int64 `json:"backups,omitempty"`

	// bytes is the size of their archives and escrow files.
	// +optional
	Bytes int64 `json:"bytes,omitempty"`

	// oldestTime is when the oldest of them was started.
	// +optional
	OldestTime *metav1.Time `json:"oldestTime,omitempty"`

	// oldestKeyVersion is the oldest version of the master key that one of them needs to be
	// restored without its escrow. Manifests with a valid signature that count as invalid because
	// of their time or size are included.
	// +optional
	OldestKeyVersion int64 `json:"oldestKeyVersion,omitempty"`

	// withoutEscrow is the number of backups without an escrow file. They cannot be restored
	// without the master key.
	// +optional
	WithoutEscrow int64 `json:"withoutEscrow,omitempty"`

	// invalid is the number of manifests in the destination that cannot be read or verified, or
	// that have a time or size that no backup has. They may be damaged, or not be of this
	// SecureNotes. backups, bytes, withoutEscrow and oldestTime do not count them. oldestKeyVersion
	// does not cover those that cannot be read or verified.
	// +optional
	Invalid int64 `json:"invalid,omitempty"`

	// deleted is the number of backups that this one deleted because spec.backup.keep no longer
	// keeps them.
	// +optional
	Deleted int64 `json:"deleted,omitempty"`

	// deletionError is why backups that spec.backup.keep no longer keeps were not deleted.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	DeletionError string `json:"deletionError,omitempty"`

	// deletionRefused reports whether the destination refused to delete them. After any other
	// error, the next backup tries again.
	// +optional
	DeletionRefused bool `json:"deletionRefused,omitempty"`
}

// NotesBackup backs up one SecureNotes once. Users keep writing meanwhile. Deleting it does not
// delete the backup. It is not deleted with its SecureNotes, because it tells where the backup is.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=notesbackups,singular=notesbackup,shortName=nb,categories=all
// +kubebuilder:printcolumn:name="SecureNotes",type=string,JSONPath=`.spec.secureNotesRef.name`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.reason`
// +kubebuilder:printcolumn:name="Notes",type=integer,JSONPath=`.status.notes`
// +kubebuilder:printcolumn:name="Bytes",type=integer,JSONPath=`.status.bytes`
// +kubebuilder:printcolumn:name="Seconds",type=integer,JSONPath=`.status.durationSeconds`
// +kubebuilder:printcolumn:name="Key version",type=integer,JSONPath=`.status.newestKeyVersion`,priority=1
// +kubebuilder:printcolumn:name="ID",type=string,JSONPath=`.status.id`
// +kubebuilder:printcolumn:name="Location",type=string,JSONPath=`.status.location`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NotesBackup struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard metadata of an object.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the backup that is requested. It cannot be changed.
	// +required
	Spec NotesBackupSpec `json:"spec,omitzero"`

	// status is the state of the backup.
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status NotesBackupStatus `json:"status,omitempty,omitzero"`
}

// NotesBackupSpec is the backup that is requested.
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the spec of a NotesBackup cannot be changed: create another NotesBackup"
type NotesBackupSpec struct {
	// secureNotesRef names the SecureNotes in the same namespace that is backed up, as its
	// spec.backup says.
	// +required
	SecureNotesRef LocalObjectReference `json:"secureNotesRef,omitzero"`
}

// BackupCreator is what made the operator create a backup.
type BackupCreator string

const (
	// BackupBySchedule means spec.backup.schedule.
	BackupBySchedule BackupCreator = "Schedule"
	// BackupByAnnotation means [AnnotationBackupRequestedAt].
	BackupByAnnotation BackupCreator = "Annotation"
	// BackupByRotation means the end of a KeyRotation.
	BackupByRotation BackupCreator = "Rotation"
)

// NotesBackupStatus is the state of a backup.
type NotesBackupStatus struct {
	// observedGeneration is the generation of the spec that this status describes.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// state summarizes the progress in one word: Queued, BackingUp, Complete or Failed. Restored
	// means that the backup had ended when another tool restored this object without its status. It
	// does not start again.
	// +kubebuilder:validation:MaxLength=32
	// +optional
	State string `json:"state,omitempty"`

	// reason is why the backup waits or has failed. It is the reason of the condition Reconciling
	// or Failed. If unset, state tells enough.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Reason string `json:"reason,omitempty"`

	// createdBy is what made the operator create this backup: Schedule, Annotation
	// (securenotes.dev/backup-requested-at) or Rotation. Only these objects are deleted once
	// spec.backup.keep no longer keeps their backup. Unset if a person created it.
	// +kubebuilder:validation:Enum=Schedule;Annotation;Rotation
	// +optional
	CreatedBy BackupCreator `json:"createdBy,omitempty"`

	// secureNotesUID is the UID of the SecureNotes that is backed up. Unset until the backup
	// starts.
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

	// startTime is when the backup started. Unset while it is queued.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// completionTime is when the backup ended, Complete or Failed.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`

	// durationSeconds is the time from startTime to completionTime in seconds.
	// +optional
	DurationSeconds int64 `json:"durationSeconds,omitempty"`

	BackupResult `json:",inline"`

	// destination is what the backup found in its destination at the end.
	// +optional
	Destination *BackupDestinationStatus `json:"destination,omitempty"`

	// conditions are the observed conditions of the backup: Complete from the first
	// reconciliation. Reconciling, Failed and Restored are present only while they are True.
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BackupResult describes a complete backup as its Job reported it.
type BackupResult struct {
	// id names the files of the backup in the destination.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	ID string `json:"id,omitempty"`

	// location is the URL of the bucket and the prefix, or the name of the volume claim, that the
	// backup was written to.
	// +kubebuilder:validation:MaxLength=600
	// +optional
	Location string `json:"location,omitempty"`

	// sequence is the signed number of the backup. A newer backup of the SecureNotes has a higher
	// one.
	// +optional
	Sequence int64 `json:"sequence,omitempty"`

	// notes is the number of notes in the backup.
	// +optional
	Notes int64 `json:"notes,omitempty"`

	// accounts is the number of accounts in the backup.
	// +optional
	Accounts int64 `json:"accounts,omitempty"`

	// bytes is the size of the archive and the escrow file.
	// +optional
	Bytes int64 `json:"bytes,omitempty"`

	// escrow is true if the backup has an escrow file.
	// +optional
	Escrow bool `json:"escrow,omitempty"`

	// sha256 is the SHA-256 of the archive, in hexadecimal.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	SHA256 string `json:"sha256,omitempty"`

	// manifestSHA256 is the SHA-256 of the manifest, in hexadecimal. If a Compromise has replaced
	// the key that signed it, `securenotes restore` accepts the backup only with this value.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	ManifestSHA256 string `json:"manifestSHA256,omitempty"`

	// oldestKeyVersion is the oldest version of the master key that is needed to restore the backup
	// without its escrow.
	// +optional
	OldestKeyVersion int64 `json:"oldestKeyVersion,omitempty"`

	// newestKeyVersion is the newest version of the master key that the backup may need.
	// +optional
	NewestKeyVersion int64 `json:"newestKeyVersion,omitempty"`

	// snapshotTime is when the backup read the database: later changes are not in it.
	// +optional
	SnapshotTime *metav1.Time `json:"snapshotTime,omitempty"`

	// verificationTime is when the files had been read back from the destination and compared with
	// what was written.
	// +optional
	VerificationTime *metav1.Time `json:"verificationTime,omitempty"`

	// uploadTime is when the manifest was written, which completes the backup.
	// +optional
	UploadTime *metav1.Time `json:"uploadTime,omitempty"`
}

// NotesBackupList is a list of NotesBackups.
// +kubebuilder:object:root=true
type NotesBackupList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NotesBackup `json:"items"`
}
