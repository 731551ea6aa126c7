package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BackupDrill determines when the newest backup is tested. A drill restores it into a database of
// its own, opens a value of each table under every owner key, and deletes that database. It changes
// neither the service nor the backups.
type BackupDrill struct {
	// schedule is when a drill is made, in Cron format and in backup.timeZone. Defaults to
	// "0 4 * * 0", early on Sundays.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=100
	// +optional
	Schedule string `json:"schedule,omitempty"`

	// suspend stops the drills and destroys their identity. New backups are then encrypted to
	// backup.recipients only. Defaults to false.
	// +optional
	Suspend *bool `json:"suspend,omitempty"`

	// storage is the volume that a drill restores into. It exists only during the drill.
	// +optional
	Storage *DrillStorage `json:"storage,omitempty"`
}

// DrillStorage is the volume that a drill restores into.
type DrillStorage struct {
	// size is the size of the volume in Mi, Gi or Ti. It must hold all accounts and notes. Defaults
	// to 10Gi.
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=8
	// +kubebuilder:validation:Pattern=`^[1-9][0-9]*(Mi|Gi|Ti)$`
	// +optional
	Size string `json:"size,omitempty"`

	// storageClassName is the StorageClass of the volume. If unset, the cluster's default is used.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	StorageClassName string `json:"storageClassName,omitempty"`
}

// DrillStatus is what the operator knows about the drills of a SecureNotes.
type DrillStatus struct {
	// identities are the age identities of the drill in Vault, newest first, at most 5. Backups are
	// also encrypted to the first one. Each new version of the master key adds one. The older ones
	// are destroyed once a drill has opened a backup with a newer one.
	// +kubebuilder:validation:MaxItems=5
	// +listType=atomic
	// +optional
	Identities []DrillIdentity `json:"identities,omitempty"`

	// nextIdentity is the identity that the operator is creating in Vault.
	// +optional
	NextIdentity *DrillIdentity `json:"nextIdentity,omitempty"`

	// observedSchedule is the drill schedule that the operator last saw.
	// +optional
	ObservedSchedule *ObservedSchedule `json:"observedSchedule,omitempty"`

	// lastScheduleTime is the last scheduled time that the operator handled.
	// +optional
	LastScheduleTime *metav1.Time `json:"lastScheduleTime,omitempty"`

	// nextTime is the next scheduled drill.
	// +optional
	NextTime *metav1.Time `json:"nextTime,omitempty"`

	// startTime is when the drill that runs was started. Unset while none runs.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// jobUID is the UID of the Job of the drill that runs. The operator trusts no other Job.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	JobUID string `json:"jobUID,omitempty"`

	// jobDigest is the SHA-256 of the spec of the Job when the Job was created. If the spec differs
	// when the Job completes, the operator does not trust the Job.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	JobDigest string `json:"jobDigest,omitempty"`

	// lastTime is when the last drill ended.
	// +optional
	LastTime *metav1.Time `json:"lastTime,omitempty"`

	// lastPassedTime is when a drill last found the newest backup intact: Passed or
	// VersionsRetired.
	// +optional
	LastPassedTime *metav1.Time `json:"lastPassedTime,omitempty"`

	// result is how the last drill ended. Passed: every owner key and a value of each table under
	// it were opened. VersionsRetired: the backup is intact, but it needs versions of the master
	// key that no longer decrypt; only its escrow opens it. Failed: see message.
	// +kubebuilder:validation:Enum=Passed;VersionsRetired;Failed
	// +optional
	Result DrillResult `json:"result,omitempty"`

	// reason is why the last drill failed, such as DestinationUnavailable. Unset unless result is
	// Failed and a reason is known.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Reason string `json:"reason,omitempty"`

	// message says what the last drill found.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`

	// lastID is the id of the backup that the last drill tested. It and the numbers are unset if
	// that drill failed.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	LastID string `json:"lastID,omitempty"`

	// lastEntry is the Vault entry of the identity that last opened a backup. Older identities are
	// not needed any more.
	// +kubebuilder:validation:MaxLength=22
	// +optional
	LastEntry string `json:"lastEntry,omitempty"`

	// accounts is the number of accounts in that backup.
	// +optional
	Accounts int64 `json:"accounts,omitempty"`

	// notes is the number of notes in that backup.
	// +optional
	Notes int64 `json:"notes,omitempty"`

	// ownerKeys is the number of owner keys that were unwrapped.
	// +optional
	OwnerKeys int64 `json:"ownerKeys,omitempty"`

	// values is the number of values that were opened.
	// +optional
	Values int64 `json:"values,omitempty"`
}

// DrillResult is how a drill ended.
type DrillResult string

const (
	// DrillPassed means that the backup can be restored.
	DrillPassed DrillResult = "Passed"
	// DrillVersionsRetired means that the backup needs retired versions of the master key.
	DrillVersionsRetired DrillResult = "VersionsRetired"
	// DrillFailed means that the drill could not restore the backup.
	DrillFailed DrillResult = "Failed"
)

// DrillIdentity is an age identity in Vault that opens backups for the drill. The operator records
// it before it creates the entry, and cannot read the entry.
type DrillIdentity struct {
	// entry is the name of the entry in the Vault directory of the SecureNotes.
	// +kubebuilder:validation:Pattern=`^drill-[a-z2-7]{16}$`
	// +kubebuilder:validation:MaxLength=22
	// +required
	Entry string `json:"entry,omitempty"`

	// recipient is the public key of the identity. A drill accepts no other identity in the entry.
	// +required
	Recipient AgeRecipient `json:"recipient,omitempty"`

	// keyVersion is the version of the master key for which the identity was created.
	// +kubebuilder:validation:Minimum=1
	// +required
	KeyVersion int64 `json:"keyVersion,omitempty"`

	// since is when the identity was created.
	// +required
	Since metav1.Time `json:"since,omitzero"`
}
