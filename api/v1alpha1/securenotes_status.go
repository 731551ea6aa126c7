package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// SecureNotesStatus is what the operator last saw.
type SecureNotesStatus struct {
	// observedGeneration is the generation of the spec that the rest is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// url of the API: the first of spec.hostnames that the certificate names, or the Service's own
	// name.
	// +kubebuilder:validation:MaxLength=300
	// +optional
	URL string `json:"url,omitempty"`

	// replicas is how many pods of the API exist.
	// +optional
	Replicas int32 `json:"replicas,omitempty"`

	// readyReplicas is how many of them answer.
	// +optional
	ReadyReplicas int32 `json:"readyReplicas,omitempty"`

	// selector of the pods, for the scale subresource.
	// +kubebuilder:validation:MaxLength=500
	// +optional
	Selector string `json:"selector,omitempty"`

	// volumeSize is the size of the embedded database's volume; spec.database.embedded.storage.size
	// cannot be lowered below it. Unset: there is no volume yet.
	// +kubebuilder:validation:Pattern=`^[0-9]{1,18}(Ki|Mi|Gi|Ti|Pi)?$`
	// +kubebuilder:validation:MaxLength=20
	// +optional
	VolumeSize string `json:"volumeSize,omitempty"`

	// deploymentID is what every key and note is bound to: the UID of the object that the master key
	// was made for. It is set once the keys in Vault are complete; from then on the operator never
	// makes a missing one anew.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	DeploymentID string `json:"deploymentID,omitempty"`

	// sessionKeys names the entry in Vault with the session keys in use. A Compromise replaces them by
	// another entry; nothing else ever does. Unset: session-keys.
	// +kubebuilder:validation:Pattern=`^session-keys(-[1-9][0-9]{0,18})?$`
	// +kubebuilder:validation:MaxLength=32
	// +optional
	SessionKeys string `json:"sessionKeys,omitempty"`

	// sessionKeysDigest is the SHA-256 of the session keys in use; pods accept no others. Unset: an
	// earlier release created them.
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{64}$`
	// +kubebuilder:validation:MaxLength=64
	// +optional
	SessionKeysDigest string `json:"sessionKeysDigest,omitempty"`

	// nextSessionKeys are session keys that are being created in Vault.
	// +optional
	NextSessionKeys *RecordedSecret `json:"nextSessionKeys,omitempty"`

	// pepper names the entry in Vault with the pepper of passwords; pods accept no other. Unset: it is
	// the entry pepper, which an earlier release created.
	// +optional
	Pepper *RecordedSecret `json:"pepper,omitempty"`

	// database is what is known of the database. The marker in Vault keeps the same, for when this
	// status is lost; the later of the two counts, because Vault may have been restored.
	// +optional
	Database *DatabaseStatus `json:"database,omitempty"`

	// masterKey as it was last seen in Vault.
	// +optional
	MasterKey *MasterKeyStatus `json:"masterKey,omitempty"`

	// certificate of the server.
	// +optional
	Certificate *CertificateStatus `json:"certificate,omitempty"`

	// observedSchedule is the schedule as it was last seen, and since when it has been so.
	// +optional
	ObservedSchedule *ObservedSchedule `json:"observedSchedule,omitempty"`

	// lastScheduleTime is the time of the schedule that was last acted on.
	// +optional
	LastScheduleTime *metav1.Time `json:"lastScheduleTime,omitempty"`

	// lastHandledRotateRequest echoes the annotation securenotes.dev/rotate-requested-at.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	LastHandledRotateRequest string `json:"lastHandledRotateRequest,omitempty"`

	// handledRotateRequests counts the values of that annotation that were handled, so that a value
	// that is used again asks for another rotation.
	// +optional
	HandledRotateRequests int64 `json:"handledRotateRequests,omitempty"`

	// conditions; each is documented at its Condition constant.
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// RecordedSecret is what is recorded of a value in Vault before the operator creates it: an entry with
// another value is somebody else's.
type RecordedSecret struct {
	// entry is its name in the SecureNotes' directory.
	// +kubebuilder:validation:Pattern=`^(session-keys-[1-9][0-9]{0,18}|pepper(-[a-z2-7]{16})?)$`
	// +kubebuilder:validation:MaxLength=32
	// +required
	Entry string `json:"entry,omitempty"`

	// digest is the SHA-256 of the value.
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{64}$`
	// +kubebuilder:validation:MaxLength=64
	// +required
	Digest string `json:"digest,omitempty"`
}

// DatabaseStatus is what is known of the database.
type DatabaseStatus struct {
	// inUse is true from the first pod on that was ready: no empty database may take its place.
	// +optional
	InUse bool `json:"inUse,omitempty"`

	// acceptedEmpty counts how often a user has accepted an empty database in the place of a lost
	// one.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	AcceptedEmpty int64 `json:"acceptedEmpty,omitempty"`
}

// ObservedSchedule says since when a schedule has been asked for: only times of it after that can be missed.
type ObservedSchedule struct {
	// schedule is spec.keyRotation.schedule. Unset: there was none.
	// +kubebuilder:validation:MaxLength=100
	// +optional
	Schedule string `json:"schedule,omitempty"`

	// timeZone of the schedule.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +required
	TimeZone string `json:"timeZone,omitempty"`

	// since is when the schedule was first seen to be so; of one that an earlier operator has acted on, the time of that;
	// of one that the object was made with, the object's creation.
	// +required
	Since metav1.Time `json:"since,omitzero"`
}

// MasterKeyStatus is the master key as it was last seen in Vault.
type MasterKeyStatus struct {
	// name of the Transit key.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Name string `json:"name,omitempty"`

	// latestVersion of the key.
	// +optional
	LatestVersion int64 `json:"latestVersion,omitempty"`

	// minDecryptionVersion is the oldest version that still decrypts.
	// +optional
	MinDecryptionVersion int64 `json:"minDecryptionVersion,omitempty"`

	// minDecryptionFloor is the highest floor that this operator has set; a lower one in Vault was
	// lowered by hand, and is reported, not fought.
	// +optional
	MinDecryptionFloor int64 `json:"minDecryptionFloor,omitempty"`

	// minAvailableVersion is the oldest version that Vault still has; 0: none was destroyed.
	// +optional
	MinAvailableVersion int64 `json:"minAvailableVersion,omitempty"`

	// lastRotationTime is when the newest rotation completed.
	// +optional
	LastRotationTime *metav1.Time `json:"lastRotationTime,omitempty"`

	// nextRotationTime is when the schedule rotates next.
	// +optional
	NextRotationTime *metav1.Time `json:"nextRotationTime,omitempty"`

	// pendingRetirements are old versions that still decrypt, and when they are to stop.
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=toVersion
	// +optional
	PendingRetirements []PendingRetirement `json:"pendingRetirements,omitempty"`

	// retirements are the newest versions before which nothing decrypts any more, and since when, as long as
	// what is older was not destroyed; see spec.keyRotation.trim.
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=toVersion
	// +optional
	Retirements []Retirement `json:"retirements,omitempty"`
}

// PendingRetirement says when every version older than ToVersion stops decrypting.
type PendingRetirement struct {
	// toVersion becomes the oldest version that decrypts.
	// +required
	ToVersion int64 `json:"toVersion,omitempty"`

	// due is when; everything is verified once more before.
	// +required
	Due metav1.Time `json:"due,omitzero"`

	// urgent is true after a compromise: the verification does not make way for users.
	// +optional
	Urgent bool `json:"urgent,omitempty"`

	// attempt counts the verifications before this retirement, from 1.
	// +optional
	Attempt int32 `json:"attempt,omitempty"`

	// jobUID is of the verification Job that this attempt made; no other Job is believed.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	JobUID string `json:"jobUID,omitempty"`

	// jobDigest is the SHA-256 of that Job's spec as it was created. The Job is not believed if its
	// spec is another when it completes. Unset: an earlier release created it.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	JobDigest string `json:"jobDigest,omitempty"`

	// message says what the last attempt found, when it failed.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`
}

// Retirement says since when every version older than ToVersion no longer decrypts.
type Retirement struct {
	// toVersion is the oldest version that decrypts.
	// +required
	ToVersion int64 `json:"toVersion,omitempty"`

	// time of the retirement.
	// +required
	Time metav1.Time `json:"time,omitzero"`

	// attempt counts the verifications before older versions are destroyed, from 1.
	// +optional
	Attempt int32 `json:"attempt,omitempty"`

	// jobUID is of the verification Job that this attempt made; no other Job is believed.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	JobUID string `json:"jobUID,omitempty"`

	// jobDigest is the SHA-256 of that Job's spec as it was created. The Job is not believed if its
	// spec is another when it completes. Unset: an earlier release created it.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	JobDigest string `json:"jobDigest,omitempty"`

	// retryTime is when it is tried again, after it failed.
	// +optional
	RetryTime *metav1.Time `json:"retryTime,omitempty"`

	// reason why the last attempt failed: TrimFailed, or SetupMissing where vault-setup has not
	// given the right. Unset beside a message: TrimFailed.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Reason string `json:"reason,omitempty"`

	// message says what the last attempt found, when it failed.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`
}

// CertificateStatus is the server's certificate.
type CertificateStatus struct {
	// secretName is the Secret that cert-manager writes the certificate to. It stays as it is for
	// as long as spec.tls.certManager is set.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	SecretName string `json:"secretName,omitempty"`

	// notAfter is when the certificate ends. With spec.tls.secretRef it is of the certificate that
	// a pod serves; unset: no pod could be asked.
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`
}
