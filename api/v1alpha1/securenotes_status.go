package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// SecureNotesStatus is the state that the operator last observed.
type SecureNotesStatus struct {
	// observedGeneration is the generation of the spec that this status describes.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// url is the address of the API. It has the first of spec.hostnames that the certificate
	// includes, or else the name of the Service.
	// +kubebuilder:validation:MaxLength=300
	// +optional
	URL string `json:"url,omitempty"`

	// replicas is the number of API pods that exist.
	// +optional
	Replicas int32 `json:"replicas,omitempty"`

	// readyReplicas is the number of API pods that are ready.
	// +optional
	ReadyReplicas int32 `json:"readyReplicas,omitempty"`

	// selector is the label selector of the API pods, for the scale subresource.
	// +kubebuilder:validation:MaxLength=500
	// +optional
	Selector string `json:"selector,omitempty"`

	// volumeSize is the size of the embedded database's volume. spec.database.embedded.storage.size
	// cannot be lower. Unset while no volume exists.
	// +kubebuilder:validation:Pattern=`^[0-9]{1,18}(Ki|Mi|Gi|Ti|Pi)?$`
	// +kubebuilder:validation:MaxLength=20
	// +optional
	VolumeSize string `json:"volumeSize,omitempty"`

	// deploymentID identifies the deployment that every key and note is bound to. It is the UID of
	// the SecureNotes that the master key was created for. It is set once the keys in Vault are
	// complete. From then on, the operator does not recreate a missing key.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	DeploymentID string `json:"deploymentID,omitempty"`

	// sessionKeys is the Vault entry of the current session keys. Only a KeyRotation of reason
	// Compromise replaces them, by another entry. If unset, it is session-keys.
	// +kubebuilder:validation:Pattern=`^session-keys(-[1-9][0-9]{0,18})?$`
	// +kubebuilder:validation:MaxLength=32
	// +optional
	SessionKeys string `json:"sessionKeys,omitempty"`

	// sessionKeysDigest is the SHA-256 of the current session keys. Pods accept no others. Unset if
	// an earlier release created them.
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{64}$`
	// +kubebuilder:validation:MaxLength=64
	// +optional
	SessionKeysDigest string `json:"sessionKeysDigest,omitempty"`

	// nextSessionKeys are the session keys that the operator is creating in Vault.
	// +optional
	NextSessionKeys *RecordedSecret `json:"nextSessionKeys,omitempty"`

	// pepper is the Vault entry of the pepper that protects passwords. Pods accept no other. If
	// unset, it is the entry pepper, which an earlier release created.
	// +optional
	Pepper *RecordedSecret `json:"pepper,omitempty"`

	// database is what the operator has recorded about the database. A marker in Vault holds the
	// same, in case this status is lost. The later of the two counts, because Vault may have been
	// restored.
	// +optional
	Database *DatabaseStatus `json:"database,omitempty"`

	// masterKey is the master key as last seen in Vault.
	// +optional
	MasterKey *MasterKeyStatus `json:"masterKey,omitempty"`

	// backupKeys are the public keys of the Vault key that signs backups. Save them with the age
	// identity: a restore without Vault needs them. Unset while the operator has no right to the
	// key, because vault-setup was last run with an earlier release.
	// +optional
	BackupKeys *BackupKeysStatus `json:"backupKeys,omitempty"`

	// backup is what the operator knows about the backups. Unset while spec.backup is unset.
	// +optional
	Backup *BackupStatus `json:"backup,omitempty"`

	// certificate is the server's certificate.
	// +optional
	Certificate *CertificateStatus `json:"certificate,omitempty"`

	// observedSchedule is the rotation schedule that the operator last saw.
	// +optional
	ObservedSchedule *ObservedSchedule `json:"observedSchedule,omitempty"`

	// lastScheduleTime is the last scheduled time that the operator handled.
	// +optional
	LastScheduleTime *metav1.Time `json:"lastScheduleTime,omitempty"`

	// lastHandledRotateRequest is the value of the annotation securenotes.dev/rotate-requested-at
	// that the operator last handled.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	LastHandledRotateRequest string `json:"lastHandledRotateRequest,omitempty"`

	// handledRotateRequests is the number of values of the annotation
	// securenotes.dev/rotate-requested-at that the operator has handled. It lets a value that is
	// used again request another rotation.
	// +optional
	HandledRotateRequests int64 `json:"handledRotateRequests,omitempty"`

	// conditions are the observed conditions of the service. Ready is the summary of VaultReady,
	// DatabaseReady, CertificateReady and WorkloadReady. KeyRotationHealthy tells about rotations,
	// and BackupHealthy, which is present only while spec.backup is set, about backups.
	// Reconciling, Stalled, AnnotationIgnored and BackupKeyUnusable are present only while they are
	// True.
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// RecordedSecret identifies a secret in Vault. The operator records it before it creates the entry,
// so that it can tell whether someone else created the entry.
type RecordedSecret struct {
	// entry is the name of the entry in the Vault directory of the SecureNotes.
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

// DatabaseStatus is what the operator has recorded about the database.
type DatabaseStatus struct {
	// inUse is true once a pod has been ready. From then on, an empty database is an error.
	// +optional
	InUse bool `json:"inUse,omitempty"`

	// acceptedEmpty is how often a user has accepted an empty database in place of a lost one.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	AcceptedEmpty int64 `json:"acceptedEmpty,omitempty"`
}

// ObservedSchedule is a schedule that the operator last saw, of rotations or of backups. Only times
// after since can be missed.
type ObservedSchedule struct {
	// schedule is the schedule in the spec. Unset if the spec has none.
	// +kubebuilder:validation:MaxLength=100
	// +optional
	Schedule string `json:"schedule,omitempty"`

	// timeZone is the time zone of the schedule.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +required
	TimeZone string `json:"timeZone,omitempty"`

	// since is when the operator first saw this schedule and time zone. If the object was created
	// with them, it is the object's creation time. If an earlier release has already acted on the
	// schedule, it is the time of that.
	// +required
	Since metav1.Time `json:"since,omitzero"`
}

// MasterKeyStatus is the master key as last seen in Vault.
type MasterKeyStatus struct {
	// name is the name of the Transit key.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Name string `json:"name,omitempty"`

	// latestVersion is the latest version of the key.
	// +optional
	LatestVersion int64 `json:"latestVersion,omitempty"`

	// minDecryptionVersion is the oldest version that can decrypt.
	// +optional
	MinDecryptionVersion int64 `json:"minDecryptionVersion,omitempty"`

	// minDecryptionFloor is the highest minDecryptionVersion that this operator has set. If Vault
	// has a lower one, someone has lowered it. The operator reports that with the reason
	// FloorsChanged and does not raise it again.
	// +optional
	MinDecryptionFloor int64 `json:"minDecryptionFloor,omitempty"`

	// minAvailableVersion is the oldest version that exists in Vault. It is 0 if none has been
	// destroyed.
	// +optional
	MinAvailableVersion int64 `json:"minAvailableVersion,omitempty"`

	// lastRotationTime is when the newest rotation completed.
	// +optional
	LastRotationTime *metav1.Time `json:"lastRotationTime,omitempty"`

	// nextRotationTime is the next scheduled rotation.
	// +optional
	NextRotationTime *metav1.Time `json:"nextRotationTime,omitempty"`

	// pendingRetirements are the planned retirements of old versions, at most 64. Until then, the
	// old versions can decrypt.
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=toVersion
	// +optional
	PendingRetirements []PendingRetirement `json:"pendingRetirements,omitempty"`

	// retirements are the newest retirements whose older versions still exist in Vault, at most 64.
	// See spec.keyRotation.trim.
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=toVersion
	// +optional
	Retirements []Retirement `json:"retirements,omitempty"`
}

// PendingRetirement plans when every version older than ToVersion stops decrypting.
type PendingRetirement struct {
	// toVersion is the oldest version that can decrypt after the retirement.
	// +required
	ToVersion int64 `json:"toVersion,omitempty"`

	// due is when the old versions stop decrypting. Everything is verified once more before that.
	// +required
	Due metav1.Time `json:"due,omitzero"`

	// urgent is true after a Compromise. The verification then does not yield to the users'
	// requests.
	// +optional
	Urgent bool `json:"urgent,omitempty"`

	// attempt is the number of the current verification before this retirement, starting at 1.
	// +optional
	Attempt int32 `json:"attempt,omitempty"`

	// jobUID is the UID of the verification Job that this attempt created. The operator trusts no
	// other Job.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	JobUID string `json:"jobUID,omitempty"`

	// jobDigest is the SHA-256 of the spec of the verification Job when the Job was created. If the
	// spec differs when the Job completes, the operator does not trust the Job. Unset if an earlier
	// release created the Job.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	JobDigest string `json:"jobDigest,omitempty"`

	// message is why the last attempt failed.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`

	// neededByBackup is the oldest version of the master key that a backup in the destination
	// needs, if it is older than toVersion. After the retirement, such a backup can be restored
	// only from its escrow, or once Vault allows its versions again.
	// +optional
	NeededByBackup int64 `json:"neededByBackup,omitempty"`
}

// Retirement records when every version older than ToVersion stopped decrypting.
type Retirement struct {
	// toVersion is the oldest version that can decrypt since the retirement.
	// +required
	ToVersion int64 `json:"toVersion,omitempty"`

	// time is when the old versions stopped decrypting.
	// +required
	Time metav1.Time `json:"time,omitzero"`

	// attempt is the number of the current verification before the old versions are destroyed,
	// starting at 1.
	// +optional
	Attempt int32 `json:"attempt,omitempty"`

	// jobUID is the UID of the verification Job that this attempt created. The operator trusts no
	// other Job.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	JobUID string `json:"jobUID,omitempty"`

	// jobDigest is the SHA-256 of the spec of the verification Job when the Job was created. If the
	// spec differs when the Job completes, the operator does not trust the Job. Unset if an earlier
	// release created the Job.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	JobDigest string `json:"jobDigest,omitempty"`

	// retryTime is when the operator tries again after a failure.
	// +optional
	RetryTime *metav1.Time `json:"retryTime,omitempty"`

	// reason is why the last attempt failed: TrimFailed, or SetupMissing if the Vault administrator
	// has not granted the right with vault-setup. Unset with a message means TrimFailed.
	// HeldByBackup is no failure: the trim waits, as the message says.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Reason string `json:"reason,omitempty"`

	// message is why the last attempt failed, in words.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`
}

// BackupKeysStatus are the public keys of the Vault key that signs backups.
type BackupKeysStatus struct {
	// key is the name of the Transit key.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=400
	// +required
	Key string `json:"key,omitempty"`

	// versions are the newest versions of the key, at most 64, in ascending order.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=version
	// +required
	Versions []BackupKeyVersion `json:"versions,omitempty"`
}

// BackupKeyVersion is one version of the key that signs backups.
type BackupKeyVersion struct {
	// version is the number of the version.
	// +kubebuilder:validation:Minimum=1
	// +required
	Version int64 `json:"version,omitempty"`

	// publicKey is the Ed25519 public key, 32 bytes, in base64.
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9+/]{43}=$`
	// +kubebuilder:validation:MaxLength=44
	// +required
	PublicKey string `json:"publicKey,omitempty"`

	// since is when Vault created the version.
	// +required
	Since metav1.Time `json:"since,omitzero"`

	// until is when the next version replaced this one. Only a KeyRotation of reason Compromise
	// does that, so a signature of this version no longer proves anything. Unset for the newest
	// version.
	// +optional
	Until *metav1.Time `json:"until,omitempty"`
}

// CertificateStatus is the server's certificate.
type CertificateStatus struct {
	// secretName is the Secret that cert-manager writes the certificate to. It does not change
	// while spec.tls.certManager is set.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	SecretName string `json:"secretName,omitempty"`

	// notAfter is when the certificate expires. With spec.tls.secretRef, it is the expiry of the
	// certificate that a pod serves, and unset if no pod could be asked.
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`
}
