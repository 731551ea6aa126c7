package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// KeyRotation is one rotation of the master key of one SecureNotes: a new version of the key, every
// note moved to it while users keep writing, and the old version retired.
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
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted. It cannot be changed.
	// +required
	Spec KeyRotationSpec `json:"spec,omitzero"`

	// status is how far it has come.
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status KeyRotationStatus `json:"status,omitempty,omitzero"`
}

// KeyRotationSpec is what is wanted.
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the spec of a KeyRotation cannot be changed: create another KeyRotation"
// +kubebuilder:validation:XValidation:rule="!has(self.reason) || self.reason != 'Compromise' || !has(self.strategy) || self.strategy == 'Reencrypt'",message="reason Compromise needs strategy Reencrypt, because Rewrap would leave the notes under keys that may have leaked: set strategy to Reencrypt or leave it out"
type KeyRotationSpec struct {
	// secureNotesRef names the SecureNotes, of the same namespace.
	// +required
	SecureNotesRef LocalObjectReference `json:"secureNotesRef,omitzero"`

	// reason is Routine, or Compromise when a key may have leaked: then the service accounts are made anew,
	// the session keys replaced, every session that began before ends, every note is re-encrypted, and the
	// old version is retired as soon as that is verified.
	// Unset: Routine.
	// +kubebuilder:validation:Enum=Routine;Compromise
	// +optional
	Reason RotationReason `json:"reason,omitempty"`

	// strategy of this rotation. Unset: spec.keyRotation.strategy of the SecureNotes, or Reencrypt for
	// Compromise.
	// +optional
	Strategy RotationStrategy `json:"strategy,omitempty"`
}

// RotationReason says why the key is rotated.
type RotationReason string

const (
	// RotationRoutine is by schedule or policy.
	RotationRoutine RotationReason = "Routine"
	// RotationCompromise is because a key may have leaked.
	RotationCompromise RotationReason = "Compromise"
)

// RotationCreator says what had the operator create a rotation.
type RotationCreator string

const (
	// CreatedBySchedule is by spec.keyRotation.schedule.
	CreatedBySchedule RotationCreator = "Schedule"
	// CreatedByAnnotation is by AnnotationRotateRequestedAt.
	CreatedByAnnotation RotationCreator = "Annotation"
)

// KeyRotationStatus is how far a rotation has come. Each step is recorded here before it is acted
// on, so that an operator that starts anew goes on where the last one stopped.
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.fromVersion) || has(self.fromVersion) && self.fromVersion == oldSelf.fromVersion",message="fromVersion is written once"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.toVersion) || has(self.toVersion) && self.toVersion == oldSelf.toVersion",message="toVersion is written once"
type KeyRotationStatus struct {
	// observedGeneration is the generation of the spec that the rest is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// state in a word, for people: Queued, RotatingKey, Reencrypting, Verifying, Complete or
	// Failed; of a Compromise also RecreatingAccounts and RestartingPods. Restored: it had ended
	// before it was restored from a backup without its status, and does not start again.
	// +kubebuilder:validation:MaxLength=32
	// +optional
	State string `json:"state,omitempty"`

	// reason in a word why it waits or has failed, as the condition Reconciling or Failed says.
	// Unset: state says it all.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Reason string `json:"reason,omitempty"`

	// createdBy says what had the operator create this rotation: Schedule, or Annotation
	// (securenotes.dev/rotate-requested-at). Only such rotations count towards, and are deleted by,
	// spec.keyRotation.historyLimit. Unset: a person created it, or an earlier release.
	// +kubebuilder:validation:Enum=Schedule;Annotation
	// +optional
	CreatedBy RotationCreator `json:"createdBy,omitempty"`

	// fromVersion of the key when the rotation began. It is written once.
	// +optional
	FromVersion *int64 `json:"fromVersion,omitempty"`

	// toVersion is the version that everything is moved to, or above. It is written once.
	// +optional
	ToVersion *int64 `json:"toVersion,omitempty"`

	// strategy, decided with the first turn.
	// +optional
	Strategy RotationStrategy `json:"strategy,omitempty"`

	// shards is how many pods share the work, decided when it is certain that the attempt has its turn. Unset: it is not.
	// +optional
	Shards int32 `json:"shards,omitempty"`

	// attempt counts from 1; a retry after a failure adds one.
	// +optional
	Attempt int32 `json:"attempt,omitempty"`

	// replacedServiceAccounts are those that a Compromise found, and deletes. They are written once, before
	// the first is deleted.
	// +kubebuilder:validation:MaxItems=4
	// +listType=map
	// +listMapKey=name
	// +optional
	ReplacedServiceAccounts []ReplacedServiceAccount `json:"replacedServiceAccounts,omitempty"`

	// replacedSessionKeys is the entry in Vault of the session keys that a Compromise replaces, and
	// destroys. It is written once, before they are replaced.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	ReplacedSessionKeys string `json:"replacedSessionKeys,omitempty"`

	// reencryptJobUID is of the re-encryption Job that this attempt made; no other Job is believed.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	ReencryptJobUID string `json:"reencryptJobUID,omitempty"`

	// reencryptJobDigest is the SHA-256 of that Job's spec as it was created. The Job is not
	// believed if its spec is another when it completes. Unset: an earlier release created it.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	ReencryptJobDigest string `json:"reencryptJobDigest,omitempty"`

	// verifyJobUID is of the verification Job that this attempt made; no other Job is believed.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	VerifyJobUID string `json:"verifyJobUID,omitempty"`

	// verifyJobDigest is the SHA-256 of that Job's spec as it was created. The Job is not believed
	// if its spec is another when it completes. Unset: an earlier release created it.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	VerifyJobDigest string `json:"verifyJobDigest,omitempty"`

	// progress of the re-encryption, as its pods report it.
	// +optional
	Progress *RotationProgress `json:"progress,omitempty"`

	// startTime is when the attempt began. Unset: it waits for its turn.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// completionTime is when it ended, Complete or Failed.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`

	// lastHandledRetryRequest echoes the annotation securenotes.dev/retry-requested-at.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	LastHandledRetryRequest string `json:"lastHandledRetryRequest,omitempty"`

	// conditions; each is documented at its Condition constant.
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ReplacedServiceAccount is a ServiceAccount as it was before a Compromise.
type ReplacedServiceAccount struct {
	// name of the ServiceAccount.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name,omitempty"`

	// uid that it had. Unset: there was none of that name.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	UID string `json:"uid,omitempty"`
}

// RotationProgress is the sum of what the pods report. It counts sealed rows: notes, and the seeds of second
// factors, which are few. For Rewrap, which leaves the rows alone, it counts the rows under the keys.
type RotationProgress struct {
	// notesDone is how many rows are done, and notesTotal of how many: those that were under an older key when
	// the pods began, and what users have written under one since. A pod that takes over from one that was
	// killed counts what that has left.
	// +optional
	NotesDone int64 `json:"notesDone"`

	// notesTotal is how many rows there are to do; see notesDone.
	// +optional
	NotesTotal int64 `json:"notesTotal"`

	// percent of the rows done, 0 to 100.
	// +optional
	Percent int32 `json:"percent"`

	// notesPerSecond is how many rows were done in a second, over the last half minute.
	// +optional
	NotesPerSecond int64 `json:"notesPerSecond,omitempty"`

	// secondsLeft at that speed. Unset: not known.
	// +optional
	SecondsLeft *int64 `json:"secondsLeft,omitempty"`

	// conflicts is how often a row, or for Rewrap a key, was left as it is because somebody else changed it
	// after it was read: a user, whose write counts, or another pod of this rotation. Nothing is lost by one.
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
