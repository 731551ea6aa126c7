package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// KeyRotation rotates the master key of one SecureNotes once. It adds a new version of the key,
// moves every note to it while users keep writing, and then schedules the retirement of the
// previous version. The operator carries out the retirement later, after another verification.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=keyrotations,singular=keyrotation,shortName=kr,categories=all
// +kubebuilder:printcolumn:name="SecureNotes",type=string,JSONPath=`.spec.secureNotesRef.name`
// +kubebuilder:printcolumn:name="Strategy",type=string,JSONPath=`.status.strategy`,priority=1
// +kubebuilder:printcolumn:name="From",type=integer,JSONPath=`.status.fromVersion`
// +kubebuilder:printcolumn:name="To",type=integer,JSONPath=`.status.toVersion`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.reason`
// +kubebuilder:printcolumn:name="Percent",type=integer,JSONPath=`.status.progress.percent`
// +kubebuilder:printcolumn:name="Notes/s",type=integer,JSONPath=`.status.progress.notesPerSecond`
// +kubebuilder:printcolumn:name="Seconds left",type=integer,JSONPath=`.status.progress.secondsLeft`
// +kubebuilder:printcolumn:name="Done",type=integer,JSONPath=`.status.progress.notesDone`,priority=1
// +kubebuilder:printcolumn:name="Total",type=integer,JSONPath=`.status.progress.notesTotal`,priority=1
// +kubebuilder:printcolumn:name="Conflicts",type=integer,JSONPath=`.status.progress.conflicts`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type KeyRotation struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard metadata of an object.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the rotation that is requested. It cannot be changed.
	// +required
	Spec KeyRotationSpec `json:"spec,omitzero"`

	// status is the progress of the rotation.
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status KeyRotationStatus `json:"status,omitempty,omitzero"`
}

// KeyRotationSpec is the rotation that is requested.
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the spec of a KeyRotation cannot be changed: create another KeyRotation"
// +kubebuilder:validation:XValidation:rule="!has(self.reason) || self.reason != 'Compromise' || !has(self.strategy) || self.strategy == 'Reencrypt'",message="reason Compromise needs strategy Reencrypt, because Rewrap would leave the notes under keys that may have leaked: set strategy to Reencrypt or remove it"
type KeyRotationSpec struct {
	// secureNotesRef names the SecureNotes in the same namespace whose master key is rotated.
	// +required
	SecureNotesRef LocalObjectReference `json:"secureNotesRef,omitzero"`

	// reason is Routine, or Compromise if a key may have leaked. Compromise recreates the service
	// accounts, replaces the session keys, ends every existing session, and re-encrypts every note.
	// Its previous version is retired without a delay, after another verification. Defaults to
	// Routine.
	// +kubebuilder:validation:Enum=Routine;Compromise
	// +optional
	Reason RotationReason `json:"reason,omitempty"`

	// strategy is the strategy of this rotation. Reencrypt gives each user a new owner key and
	// encrypts every note again with it. Rewrap only wraps the existing owner keys with the new
	// version of the master key. Compromise requires Reencrypt. If unset, it is
	// spec.keyRotation.strategy of the SecureNotes, or Reencrypt for Compromise.
	// +optional
	Strategy RotationStrategy `json:"strategy,omitempty"`
}

// RotationReason is why the key is rotated.
type RotationReason string

const (
	// RotationRoutine is a rotation by schedule or on request.
	RotationRoutine RotationReason = "Routine"
	// RotationCompromise is a rotation because a key may have leaked.
	RotationCompromise RotationReason = "Compromise"
)

// RotationCreator is what made the operator create a rotation.
type RotationCreator string

const (
	// CreatedBySchedule means spec.keyRotation.schedule.
	CreatedBySchedule RotationCreator = "Schedule"
	// CreatedByAnnotation means [AnnotationRotateRequestedAt].
	CreatedByAnnotation RotationCreator = "Annotation"
	// CreatedByRestore means the end of a NotesRestore. The old version is retired at once.
	CreatedByRestore RotationCreator = "Restore"
)

// KeyRotationStatus is the progress of a rotation. The operator records here what a step relies on
// before the step, and the result afterwards, so that a restarted operator continues where the
// previous one stopped.
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.fromVersion) || has(self.fromVersion) && self.fromVersion == oldSelf.fromVersion",message="fromVersion cannot be changed once it is set"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.toVersion) || has(self.toVersion) && self.toVersion == oldSelf.toVersion",message="toVersion cannot be changed once it is set"
type KeyRotationStatus struct {
	// observedGeneration is the generation of the spec that this status describes.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// state summarizes the progress in one word: Queued, RotatingKey, Reencrypting, Verifying,
	// Complete or Failed. A Compromise also has RecreatingAccounts and RestartingPods. Restored
	// means that the rotation had ended when a backup restored it without its status. It does not
	// start again.
	// +kubebuilder:validation:MaxLength=32
	// +optional
	State string `json:"state,omitempty"`

	// reason is why the rotation waits or has failed. It is the reason of the condition Reconciling
	// or Failed. If unset, state tells enough.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Reason string `json:"reason,omitempty"`

	// createdBy is what made the operator create this rotation: Schedule, Annotation
	// (securenotes.dev/rotate-requested-at), or Restore (a NotesRestore). Only these rotations
	// count towards spec.keyRotation.historyLimit of the SecureNotes and are deleted when they
	// exceed it. Unset if a person or an earlier release created the rotation.
	// +kubebuilder:validation:Enum=Schedule;Annotation;Restore
	// +optional
	CreatedBy RotationCreator `json:"createdBy,omitempty"`

	// fromVersion is the latest version of the key when the rotation started. It is set once.
	// +optional
	FromVersion *int64 `json:"fromVersion,omitempty"`

	// toVersion is the version that everything is moved to. What is already under a newer version
	// stays there. It is set once.
	// +optional
	ToVersion *int64 `json:"toVersion,omitempty"`

	// strategy is the strategy of this rotation. It is set when the rotation first starts.
	// +optional
	Strategy RotationStrategy `json:"strategy,omitempty"`

	// shards is the number of pods that share the work of this attempt. Unset until it is certain
	// that no other rotation of the SecureNotes runs.
	// +optional
	Shards int32 `json:"shards,omitempty"`

	// attempt is the number of the current attempt, starting at 1. Each retry after a failure adds
	// 1.
	// +optional
	Attempt int32 `json:"attempt,omitempty"`

	// replacedServiceAccounts are the service accounts that a Compromise found and deletes. They
	// are recorded once, before the first is deleted.
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=name
	// +optional
	ReplacedServiceAccounts []ReplacedServiceAccount `json:"replacedServiceAccounts,omitempty"`

	// replacedBackupKeyVersion is the latest version of the key that signs backups when a
	// Compromise began to replace it. It is recorded once, before the key gets another version.
	// +kubebuilder:validation:Minimum=1
	// +optional
	ReplacedBackupKeyVersion *int64 `json:"replacedBackupKeyVersion,omitempty"`

	// replacedSessionKeys is the Vault entry of the session keys that a Compromise replaces and
	// destroys. It is recorded once, before they are replaced.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	ReplacedSessionKeys string `json:"replacedSessionKeys,omitempty"`

	// reencryptJobUID is the UID of the re-encryption Job that this attempt created. The operator
	// trusts no other Job.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	ReencryptJobUID string `json:"reencryptJobUID,omitempty"`

	// reencryptJobDigest is the SHA-256 of the spec of the re-encryption Job when the Job was
	// created. If the spec differs when the Job completes, the operator does not trust the Job.
	// Unset if an earlier release created the Job.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	ReencryptJobDigest string `json:"reencryptJobDigest,omitempty"`

	// verifyJobUID is the UID of the verification Job that this attempt created. The operator
	// trusts no other Job.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	VerifyJobUID string `json:"verifyJobUID,omitempty"`

	// verifyJobDigest is the SHA-256 of the spec of the verification Job when the Job was created.
	// If the spec differs when the Job completes, the operator does not trust the Job. Unset if an
	// earlier release created the Job.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	VerifyJobDigest string `json:"verifyJobDigest,omitempty"`

	// progress is the progress of the re-encryption as its pods report it.
	// +optional
	Progress *RotationProgress `json:"progress,omitempty"`

	// startTime is when the current attempt started. Unset while it is queued.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// completionTime is when the rotation ended, Complete or Failed.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`

	// lastHandledRetryRequest is the value of the annotation securenotes.dev/retry-requested-at
	// that the operator last handled.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	LastHandledRetryRequest string `json:"lastHandledRetryRequest,omitempty"`

	// conditions are the observed conditions of the rotation. Reencrypted, Verified and Complete
	// become True one after the other. A Compromise has more of them: ServiceAccountsRecreated,
	// DatabaseCredentialsReplaced, BackupKeyReplaced, SessionKeysReplaced, SessionsEnded and
	// OldVersionRetired.
	// Reconciling, Failed and Restored are present only while they are True.
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ReplacedServiceAccount identifies a ServiceAccount that a Compromise replaces.
type ReplacedServiceAccount struct {
	// name is the name of the ServiceAccount.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name,omitempty"`

	// uid is the UID of the ServiceAccount before it was replaced. Unset if none of that name
	// existed.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	UID string `json:"uid,omitempty"`
}

// RotationProgress is the sum of what the pods report. It counts encrypted rows: notes, and the few
// secrets of second factors. With Rewrap, which rewrites no row, it counts the rows under the owner
// keys that are wrapped again.
type RotationProgress struct {
	// notesDone is the number of rows that are done. If a pod takes over from one that was killed,
	// it counts what the killed pod left.
	// +optional
	NotesDone int64 `json:"notesDone"`

	// notesTotal is the number of rows to move: those that were under an older key when the pods
	// started, and those that users have since written under an older key.
	// +optional
	NotesTotal int64 `json:"notesTotal"`

	// percent is the percentage of the rows that are done, from 0 to 100.
	// +optional
	Percent int32 `json:"percent"`

	// notesPerSecond is the number of rows per second, on average over the last 30 seconds.
	// +optional
	NotesPerSecond int64 `json:"notesPerSecond,omitempty"`

	// secondsLeft is the estimated time to the end in seconds, at the speed in notesPerSecond.
	// Unset if it is not known.
	// +optional
	SecondsLeft *int64 `json:"secondsLeft,omitempty"`

	// conflicts is how often a row, or with Rewrap an owner key, was left unchanged because a user
	// or another pod of this rotation changed it after it was read. Nothing is lost: that other
	// change counts.
	// +optional
	Conflicts int64 `json:"conflicts,omitempty"`
}

// KeyRotationList is a list of KeyRotations.
// +kubebuilder:object:root=true
type KeyRotationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []KeyRotation `json:"items"`
}
