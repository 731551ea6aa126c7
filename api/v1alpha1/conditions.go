package v1alpha1

// Conditions of SecureNotes. Each is present from the first pass, Unknown until known, unless its
// comment says otherwise. Positive polarity: True is good.
const (
	// ConditionReady (positive) sums up: True when every condition below that has positive polarity
	// is True, KeyRotationHealthy aside, for a failed rotation leaves the service working.
	ConditionReady = "Ready"

	// ConditionVaultReady (positive) is True when the operator last found the master key, the
	// session keys and the pepper in Vault as they should be.
	ConditionVaultReady = "VaultReady"

	// ConditionDatabaseReady (positive) is True when the service has opened its database, at the
	// right schema and belonging to this object. It says what the service's own pods reported, and
	// whether the volume of the embedded database is there. Why pods do not come up is said by
	// WorkloadReady.
	ConditionDatabaseReady = "DatabaseReady"

	// ConditionCertificateReady (positive) is True when the TLS certificate is issued and valid.
	ConditionCertificateReady = "CertificateReady"

	// ConditionWorkloadReady (positive) is True when every child object is as it should be, all
	// replicas of the current configuration answer, and a load balancer has an address.
	ConditionWorkloadReady = "WorkloadReady"

	// ConditionKeyRotationHealthy (positive) is False while the newest rotation has failed or does
	// not go on, the schedule cannot be read, a rotation that is asked for cannot be made, or a
	// version floor of the key is not where this operator put it.
	ConditionKeyRotationHealthy = "KeyRotationHealthy"

	// ConditionReconciling (negative, kstatus) is present, and True, only while the operator is
	// working towards the spec.
	ConditionReconciling = "Reconciling"

	// ConditionStalled (negative, kstatus) is present, and True, only while the operator cannot go
	// on until somebody changes something.
	ConditionStalled = "Stalled"

	// ConditionAnnotationIgnored (negative) is present, and True, only while an annotation of the
	// operator's has a value that it does not understand.
	ConditionAnnotationIgnored = "AnnotationIgnored"
)

// Conditions of KeyRotation, besides Reconciling and Stalled, which mean the same as above.
const (
	// ConditionReencrypted (positive) is True when the Job that moves every key, and for Reencrypt
	// every note, to the new version has completed.
	ConditionReencrypted = "Reencrypted"

	// ConditionVerified (positive) is True when a fresh process has found nothing below the new
	// version and every key usable.
	ConditionVerified = "Verified"

	// ConditionServiceAccountsRecreated (positive, of a Compromise only) is True when the service accounts
	// were deleted and made anew, so that no token of the old ones logs in to Vault any more.
	ConditionServiceAccountsRecreated = "ServiceAccountsRecreated"

	// ConditionDatabaseCredentialsReplaced (positive, of a Compromise with database.postgres.vaultCredentials
	// only) is True when Vault has dropped every database user that it had made for the SecureNotes.
	ConditionDatabaseCredentialsReplaced = "DatabaseCredentialsReplaced"

	// ConditionSessionKeysReplaced (positive, of a Compromise only) is True when every pod of the API has
	// started with new session keys, and the old ones are destroyed in Vault.
	ConditionSessionKeysReplaced = "SessionKeysReplaced"

	// ConditionSessionsEnded (positive, of a Compromise only) is True when the Job has ended every session
	// that began before.
	ConditionSessionsEnded = "SessionsEnded"

	// ConditionOldVersionRetired (positive, of a Compromise only) is True when Vault refuses the old
	// version. It follows Complete, for what is retired is verified once more.
	ConditionOldVersionRetired = "OldVersionRetired"

	// ConditionComplete (positive) is True at the end of a rotation that succeeded. It stays.
	ConditionComplete = "Complete"

	// ConditionRestored (negative) is present, and True, on a KeyRotation that had ended before it
	// was restored from a backup without its status; see AnnotationEnded. It does not start again.
	ConditionRestored = "Restored"

	// ConditionFailed (negative) is present, and True, while a rotation has ended without success.
	// The old version still decrypts; see AnnotationRetryRequestedAt.
	ConditionFailed = "Failed"
)

// Reasons of conditions. A reason from the service's own termination message, such as
// DatabaseUnreachable, is passed on as it is.
const (
	ReasonReady       = "Ready"
	ReasonUnknown     = "NotYetKnown"
	ReasonProgressing = "Progressing"
	ReasonSuspended   = "Suspended"
	ReasonDeleting    = "Deleting"
	// ReasonNotReady is of WorkloadReady: a pod runs and does not serve; and of DatabaseReady then.
	ReasonNotReady = "NotReady"

	// ReasonInvalidValue is of AnnotationIgnored.
	ReasonInvalidValue = "InvalidValue"

	// Of VaultReady.
	ReasonUnknownVaultConnection = "UnknownVaultConnection"
	ReasonVaultUnreachable       = "VaultUnreachable"
	ReasonVaultSealed            = "VaultSealed"
	// ReasonSetupMissing is also of DatabaseReady, KeyRotationHealthy, Ready while it is deleted,
	// and KeyRotation, where vault-setup has not given a right that only they need.
	ReasonSetupMissing = "SetupMissing"
	ReasonVaultDenied  = "VaultDenied"
	ReasonKeyRetained  = "KeyRetained"
	ReasonKeyMissing   = "KeyMissing"
	// ReasonKeyRestored is also of KeyRotation.
	ReasonKeyRestored   = "KeyRestored"
	ReasonKeyUnsuitable = "KeyUnsuitable"
	// ReasonKeyTaken and ReasonClusterIDChanged are also of KeyRotation.
	ReasonKeyTaken         = "KeyTaken"
	ReasonClusterIDChanged = "ClusterIDChanged"
	// ReasonDatabaseRoleMissing is of vaultCredentials.
	ReasonDatabaseRoleMissing = "DatabaseRoleMissing"

	// ReasonDatabaseLost is of DatabaseReady, and of WorkloadReady while the volume is what is
	// lost: there has been a database with this object's notes, and it is gone. Nothing is made in
	// its place.
	ReasonDatabaseLost = "DatabaseLost"

	// Of CertificateReady.
	ReasonCertManagerMissing = "CertManagerMissing"
	ReasonIssuerNotFound     = "IssuerNotFound"
	ReasonIssuerNotReady     = "IssuerNotReady"
	ReasonIssuing            = "Issuing"
	ReasonFromSecret         = "FromSecret"
	ReasonHostnameRefused    = "HostnameRefused"
	// ReasonHostnameKept is of a certificate that is issued, with a name that a new one would not
	// get.
	ReasonHostnameKept = "HostnameKept"
	// ReasonCertificateExpiring is of a certificate that is still valid, and is to be renewed.
	ReasonCertificateExpiring = "CertificateExpiring"
	ReasonCertificateExpired  = "CertificateExpired"
	// ReasonCertificateInvalid and ReasonCertificateNameMismatch are of a Secret of the user's own:
	// the service cannot serve with what it holds, or it does not name all of spec.hostnames.
	ReasonCertificateInvalid      = "CertificateInvalid"
	ReasonCertificateNameMismatch = "CertificateNameMismatch"
	// ReasonIssuanceFailed and ReasonIssuancePending have the words of cert-manager.
	ReasonIssuanceFailed  = "IssuanceFailed"
	ReasonIssuancePending = "IssuancePending"

	// ReasonVolumePending is of DatabaseReady: the volume of the embedded database is not provided.
	ReasonVolumePending = "VolumePending"

	// Of WorkloadReady.
	ReasonNameConflict    = "NameConflict"
	ReasonWaitingForVault = "WaitingForVault"
	ReasonApplyFailed     = "ApplyFailed"
	// ReasonLoadBalancerPending is of a Service of type LoadBalancer without an address.
	ReasonLoadBalancerPending = "LoadBalancerPending"
	// ReasonInvalidResources is also of KeyRotation.
	ReasonInvalidResources = "InvalidResources"

	// Of WorkloadReady, and of KeyRotation and KeyRotationHealthy when it is about a Job: why pods
	// do not come up. Package cause has the list.
	ReasonQuotaExceeded         = "QuotaExceeded"
	ReasonPriorityClassNotFound = "PriorityClassNotFound"
	ReasonOutsideLimitRange     = "OutsideLimitRange"
	ReasonPodsRefused           = "PodsRefused"
	ReasonUnschedulable         = "Unschedulable"
	ReasonImagePullFailed       = "ImagePullFailed"
	ReasonContainerNotCreated   = "ContainerNotCreated"
	ReasonOOMKilled             = "OOMKilled"
	ReasonContainerCrashing     = "ContainerCrashing"
	ReasonPodNotStarted         = "PodNotStarted"
	// ReasonSidecarRunning, ReasonJobSuspended and ReasonPodsMissing are of Jobs only.
	ReasonSidecarRunning = "SidecarRunning"
	ReasonJobSuspended   = "JobSuspended"
	ReasonPodsMissing    = "PodsMissing"

	// Of KeyRotationHealthy.
	ReasonIdle            = "Idle"
	ReasonRotating        = "Rotating"
	ReasonInvalidSchedule = "InvalidSchedule"
	ReasonRotationFailed  = "RotationFailed"
	ReasonFloorsChanged   = "FloorsChanged"
	ReasonTrimFailed      = "TrimFailed"

	// Of KeyRotation.
	ReasonQueued              = "Queued"
	ReasonTooManyRotations    = "TooManyRotations"
	ReasonSecureNotesNotFound = "SecureNotesNotFound"
	ReasonSecureNotesNotReady = "SecureNotesNotReady"
	ReasonRotatingKey         = "RotatingKey"
	ReasonReencrypting        = "Reencrypting"
	ReasonVerifying           = "Verifying"
	ReasonRecreatingAccounts  = "RecreatingAccounts"
	ReasonRestartingPods      = "RestartingPods"
	ReasonRevocationFailed    = "RevocationFailed"
	ReasonComplete            = "Complete"
	ReasonJobFailed           = "JobFailed"
)

const (
	// Finalizer guards what a SecureNotes keeps outside the cluster, and a rotation that has begun.
	Finalizer = "securenotes.dev/finalizer"

	// AnnotationAbandonVault set to "true" on a SecureNotes that is being deleted while its Vault is
	// gone for good, lets the object go without touching Vault. Whatever the Vault still holds stays.
	AnnotationAbandonVault = "securenotes.dev/abandon-vault"

	// AnnotationAcceptEmptyDatabase lets, on a SecureNotes with DatabaseReady=False/DatabaseLost,
	// an empty database take the place of the lost one, once: every account and every note is given
	// up. Its value is the deployment id; from the second time on, the condition's message says
	// what follows the id.
	AnnotationAcceptEmptyDatabase = "securenotes.dev/accept-empty-database"

	// AnnotationRotateRequestedAt asks, on a SecureNotes, for a Routine rotation whenever its value
	// changes; status.lastHandledRotateRequest echoes it. For GitOps, where a pruned KeyRotation
	// object would come back and rotate again. A value that was there before the keys were made or
	// adopted, as on a SecureNotes that GitOps puts back, asks for nothing. At most 64 characters.
	AnnotationRotateRequestedAt = "securenotes.dev/rotate-requested-at"

	// AnnotationRetryRequestedAt tries, on a failed KeyRotation, once more whenever its value changes;
	// status.lastHandledRetryRequest echoes it. At most 64 characters.
	AnnotationRetryRequestedAt = "securenotes.dev/retry-requested-at"

	// AnnotationEnded on a KeyRotation holds its name once it has ended. Tools such as Velero
	// restore metadata without the status: a rotation that had ended must not start again. The
	// operator writes it, and removes it when the rotation is retried. An object that has 1,000
	// annotations or more does not get it.
	AnnotationEnded = "securenotes.dev/ended"

	// LabelScheduled marks the KeyRotations that the schedule made, for people to select them by.
	// What is deleted goes by status.createdBy, which only the operator may write.
	LabelScheduled = "securenotes.dev/scheduled"
)
