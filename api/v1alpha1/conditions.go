package v1alpha1

// Conditions of SecureNotes. A condition with positive polarity is True in the normal state. It is
// present from the first reconciliation, as Unknown until the operator knows better. A condition
// with negative polarity is True in the abnormal state and present only while it is True.
const (
	// ConditionReady summarizes the conditions of the service. It is True when VaultReady,
	// DatabaseReady, CertificateReady and WorkloadReady are True. KeyRotationHealthy does not
	// count, because the service works after a failed rotation. Otherwise Ready has the reason of
	// the condition that explains the problem best.
	// Polarity: positive.
	ConditionReady = "Ready"

	// ConditionVaultReady indicates whether the master key, the session keys and the pepper are in
	// Vault as expected. If True, the operator has found them there.
	// Polarity: positive.
	ConditionVaultReady = "VaultReady"

	// ConditionDatabaseReady indicates whether the service can use its database. If True, the
	// service has opened it, it has the right schema, and it belongs to this object. The source is
	// what the API pods report, and for the embedded database its volume. WorkloadReady tells why
	// pods do not start.
	// Polarity: positive.
	ConditionDatabaseReady = "DatabaseReady"

	// ConditionCertificateReady indicates whether the TLS certificate is issued and valid.
	// Polarity: positive.
	ConditionCertificateReady = "CertificateReady"

	// ConditionWorkloadReady indicates whether the API runs. If True, every child object is up to
	// date, all replicas of the current configuration are ready, and a load balancer has an
	// address.
	// Polarity: positive.
	ConditionWorkloadReady = "WorkloadReady"

	// ConditionKeyRotationHealthy indicates whether rotations of the master key work. It is False
	// if the newest rotation has failed or is blocked, the schedule is invalid, a requested
	// rotation cannot be created, or someone has changed a version floor of the key in Vault.
	// Polarity: positive.
	ConditionKeyRotationHealthy = "KeyRotationHealthy"

	// ConditionBackupHealthy indicates whether backups are made as spec.backup says, and whether
	// the last drill could restore the newest one. It is present only while spec.backup is set, and
	// Unknown until the first backup has ended.
	// Polarity: positive.
	ConditionBackupHealthy = "BackupHealthy"

	// ConditionReconciling indicates that the operator is working towards the spec, or retrying. It
	// is a condition of kstatus. The other kinds have it, too.
	// Polarity: negative.
	ConditionReconciling = "Reconciling"

	// ConditionStalled indicates that the operator cannot continue until a person changes
	// something. It is a condition of kstatus. The other kinds have it, too.
	// Polarity: negative.
	ConditionStalled = "Stalled"

	// ConditionAnnotationIgnored indicates that an annotation of the operator has an invalid value
	// and therefore no effect.
	// Polarity: negative.
	ConditionAnnotationIgnored = "AnnotationIgnored"

	// ConditionBackupKeyUnusable indicates that the Vault key that signs backups is lost, or is
	// another one than before. The service works without it.
	// Polarity: negative.
	ConditionBackupKeyUnusable = "BackupKeyUnusable"
)

// Conditions of KeyRotation, of which NotesBackup and NotesRestore have Complete, Restored and
// Failed, in addition to Reconciling and Stalled. Those with positive polarity are present from the
// first reconciliation, as False until their step is done.
const (
	// ConditionReencrypted indicates whether the re-encryption is done. If True, the Job has moved
	// every owner key, and with Reencrypt every note, to the new version.
	// Polarity: positive.
	ConditionReencrypted = "Reencrypted"

	// ConditionVerified indicates whether the result is verified. If True, a separate process has
	// found nothing under an older version and every owner key usable.
	// Polarity: positive.
	ConditionVerified = "Verified"

	// ConditionServiceAccountsRecreated indicates whether the service accounts were deleted and
	// recreated. If True, tokens of the previous ones can no longer log in to Vault. Only a
	// rotation of reason Compromise has it.
	// Polarity: positive.
	ConditionServiceAccountsRecreated = "ServiceAccountsRecreated"

	// ConditionDatabaseCredentialsReplaced indicates whether Vault has dropped every database user
	// that it had created for the SecureNotes. Only a rotation of reason Compromise has it, and
	// only if database.postgres.vaultCredentials is set.
	// Polarity: positive.
	ConditionDatabaseCredentialsReplaced = "DatabaseCredentialsReplaced"

	// ConditionBackupKeyReplaced indicates whether the key that signs backups is replaced. If True,
	// only its newest version can sign. It stays False if Vault does not allow that: the rotation
	// completes nevertheless. Only a rotation of reason Compromise has it.
	// Polarity: positive.
	ConditionBackupKeyReplaced = "BackupKeyReplaced"

	// ConditionSessionKeysReplaced indicates whether the session keys are replaced. If True, every
	// API pod uses new ones, and the previous ones are destroyed in Vault. Only a rotation of
	// reason Compromise has it.
	// Polarity: positive.
	ConditionSessionKeysReplaced = "SessionKeysReplaced"

	// ConditionSessionsEnded indicates whether the Job has ended every session that began before
	// the rotation. Only a rotation of reason Compromise has it.
	// Polarity: positive.
	ConditionSessionsEnded = "SessionsEnded"

	// ConditionOldVersionRetired indicates whether Vault refuses to decrypt with the previous
	// version. It becomes True after Complete, because everything is verified once more before the
	// retirement. Only a rotation of reason Compromise has it.
	// Polarity: positive.
	ConditionOldVersionRetired = "OldVersionRetired"

	// ConditionComplete indicates whether the rotation, the backup or the restore has succeeded.
	// Once True, it stays True.
	// Polarity: positive.
	ConditionComplete = "Complete"

	// ConditionRestored indicates that a tool such as Velero restored the object without its
	// status, after it had ended; see [AnnotationEnded]. It does not start again.
	// Polarity: negative.
	ConditionRestored = "Restored"

	// ConditionFailed indicates that the rotation, the backup or the restore has ended without
	// success. After a failed rotation, the previous version can still decrypt, and
	// [AnnotationRetryRequestedAt] starts another attempt.
	// Polarity: negative.
	ConditionFailed = "Failed"
)

// Reasons of several conditions. The service reports further reasons in its termination messages
// and by /readyz, such as DatabaseUnreachable. The operator copies these into conditions.
const (
	// ReasonReady signals that the service is ready.
	ReasonReady = "Ready"
	// ReasonUnknown signals that the operator does not know the state yet.
	ReasonUnknown = "NotYetKnown"
	// ReasonProgressing signals that a change is under way.
	ReasonProgressing = "Progressing"
	// ReasonSuspended signals that spec.suspend is true.
	ReasonSuspended = "Suspended"
	// ReasonDeleting signals that the object is being deleted.
	ReasonDeleting = "Deleting"
	// ReasonNotReady signals that a pod runs but does not serve. It is a reason of WorkloadReady.
	// DatabaseReady has the same reason then.
	ReasonNotReady = "NotReady"
)

// Reasons of AnnotationIgnored.
const (
	// ReasonInvalidValue signals that the value of an annotation is invalid.
	ReasonInvalidValue = "InvalidValue"
)

// Reasons of VaultReady.
const (
	// ReasonUnknownVaultConnection signals that spec.vaultConnection names no Vault of the
	// operator.
	ReasonUnknownVaultConnection = "UnknownVaultConnection"
	// ReasonVaultUnreachable signals that Vault does not answer.
	ReasonVaultUnreachable = "VaultUnreachable"
	// ReasonVaultSealed signals that Vault is sealed and must be unsealed.
	ReasonVaultSealed = "VaultSealed"
	// ReasonSetupMissing signals that the operator cannot log in to Vault before the administrator
	// runs vault-setup. It is also a reason of DatabaseReady, KeyRotationHealthy, BackupHealthy,
	// KeyRotation, BackupKeyReplaced and, while the object is being deleted, Ready: vault-setup has
	// then not granted a right that one feature needs.
	ReasonSetupMissing = "SetupMissing"
	// ReasonVaultDenied signals that the operator can log in but lacks a right that every object
	// needs.
	ReasonVaultDenied = "VaultDenied"
	// ReasonKeyRetained signals that a deleted SecureNotes of this name has left its master key.
	ReasonKeyRetained = "KeyRetained"
	// ReasonKeyMissing signals that the master key, the session keys or the pepper is gone from
	// Vault. As a reason of BackupKeyUnusable and BackupKeyReplaced, it is the backup key.
	ReasonKeyMissing = "KeyMissing"
	// ReasonKeyRestored signals that Vault was restored to a state in which the master key lacks a
	// version. It is also a reason of KeyRotation.
	ReasonKeyRestored = "KeyRestored"
	// ReasonKeyUnsuitable signals that a key or a pepper in Vault is not one that the operator
	// created for this object. It is also a reason of BackupKeyUnusable and BackupKeyReplaced.
	ReasonKeyUnsuitable = "KeyUnsuitable"
	// ReasonKeyTaken signals that another SecureNotes has adopted the master key. It is also a
	// reason of KeyRotation.
	ReasonKeyTaken = "KeyTaken"
	// ReasonClusterIDChanged signals that the master key was created under another cluster ID. It
	// is also a reason of KeyRotation.
	ReasonClusterIDChanged = "ClusterIDChanged"
	// ReasonDatabaseRoleMissing signals that Vault has no database role for vaultCredentials.
	ReasonDatabaseRoleMissing = "DatabaseRoleMissing"
)

// Reasons of DatabaseReady.
const (
	// ReasonDatabaseLost signals that the database with the notes is gone. The operator creates no
	// other in its place. It is also a reason of WorkloadReady if the volume is gone.
	ReasonDatabaseLost = "DatabaseLost"
	// ReasonVolumePending signals that the embedded database has no volume yet.
	ReasonVolumePending = "VolumePending"
)

// Reasons of CertificateReady.
const (
	// ReasonCertManagerMissing signals that cert-manager is not installed.
	ReasonCertManagerMissing = "CertManagerMissing"
	// ReasonIssuerNotFound signals that the issuer does not exist.
	ReasonIssuerNotFound = "IssuerNotFound"
	// ReasonIssuerNotReady signals that the issuer is not ready.
	ReasonIssuerNotReady = "IssuerNotReady"
	// ReasonIssuing signals that cert-manager is issuing the certificate.
	ReasonIssuing = "Issuing"
	// ReasonIssuancePending signals that cert-manager or the issuer makes no progress. The message
	// quotes cert-manager.
	ReasonIssuancePending = "IssuancePending"
	// ReasonIssuanceFailed signals that the certificate was refused. The message quotes
	// cert-manager.
	ReasonIssuanceFailed = "IssuanceFailed"
	// ReasonFromSecret signals that the certificate comes from spec.tls.secretRef.
	ReasonFromSecret = "FromSecret"
	// ReasonHostnameRefused signals that the certificate omits a hostname, because the hostname may
	// be a Service of another namespace or is an IP address.
	ReasonHostnameRefused = "HostnameRefused"
	// ReasonHostnameKept signals that the certificate is issued and includes a hostname that a new
	// certificate would omit.
	ReasonHostnameKept = "HostnameKept"
	// ReasonCertificateExpiring signals that the certificate is valid, but its renewal is overdue.
	ReasonCertificateExpiring = "CertificateExpiring"
	// ReasonCertificateExpired signals that the certificate has expired.
	ReasonCertificateExpired = "CertificateExpired"
	// ReasonCertificateInvalid signals that the service cannot use the certificate in
	// spec.tls.secretRef.
	ReasonCertificateInvalid = "CertificateInvalid"
	// ReasonCertificateNameMismatch signals that the certificate in spec.tls.secretRef does not
	// include all of spec.hostnames.
	ReasonCertificateNameMismatch = "CertificateNameMismatch"
)

// Reasons of WorkloadReady.
const (
	// ReasonNameConflict signals that an object with a name that the operator needs has another
	// owner.
	ReasonNameConflict = "NameConflict"
	// ReasonWaitingForVault signals that nothing is started before the keys exist in Vault.
	ReasonWaitingForVault = "WaitingForVault"
	// ReasonApplyFailed signals that the API server refuses an object of the operator.
	ReasonApplyFailed = "ApplyFailed"
	// ReasonLoadBalancerPending signals that a Service of type LoadBalancer has no address yet.
	ReasonLoadBalancerPending = "LoadBalancerPending"
	// ReasonInvalidResources signals that spec.resources or spec.podTemplate cannot be used. It is
	// also a reason of KeyRotation.
	ReasonInvalidResources = "InvalidResources"
)

// Reasons why pods do not become ready. WorkloadReady has them, and KeyRotation and
// KeyRotationHealthy if the pods belong to a Job. Package cause finds them.
const (
	// ReasonQuotaExceeded signals that a ResourceQuota refuses the pods or another object.
	ReasonQuotaExceeded = "QuotaExceeded"
	// ReasonPriorityClassNotFound signals that spec.podTemplate.priorityClassName does not exist.
	ReasonPriorityClassNotFound = "PriorityClassNotFound"
	// ReasonOutsideLimitRange signals that the pods, or the claim of the embedded database, request
	// an amount that a LimitRange does not allow.
	ReasonOutsideLimitRange = "OutsideLimitRange"
	// ReasonPodsRefused signals that Pod Security, a webhook or a policy refuses the pods.
	ReasonPodsRefused = "PodsRefused"
	// ReasonUnschedulable signals that the scheduler finds no node for a pod.
	ReasonUnschedulable = "Unschedulable"
	// ReasonImagePullFailed signals that the image cannot be pulled.
	ReasonImagePullFailed = "ImagePullFailed"
	// ReasonContainerNotCreated signals that the kubelet cannot create a container.
	ReasonContainerNotCreated = "ContainerNotCreated"
	// ReasonOOMKilled signals that a container used more memory than its limit.
	ReasonOOMKilled = "OOMKilled"
	// ReasonContainerCrashing signals that a container exits without reporting a reason.
	ReasonContainerCrashing = "ContainerCrashing"
	// ReasonPodNotStarted signals that a volume, a Secret or the network is missing on the node.
	ReasonPodNotStarted = "PodNotStarted"
	// ReasonSidecarRunning signals that an injected container keeps the pod of a Job running after
	// the work is done.
	ReasonSidecarRunning = "SidecarRunning"
	// ReasonJobSuspended signals that something has suspended the Job.
	ReasonJobSuspended = "JobSuspended"
	// ReasonPodsMissing signals that a Job has no pod and no event tells why.
	ReasonPodsMissing = "PodsMissing"
)

// Reasons of KeyRotationHealthy. It also has the reasons of a KeyRotation that is blocked.
const (
	// ReasonIdle signals that no rotation is running.
	ReasonIdle = "Idle"
	// ReasonRotating signals that a rotation is running.
	ReasonRotating = "Rotating"
	// ReasonInvalidSchedule signals that the schedule or the time zone is invalid.
	ReasonInvalidSchedule = "InvalidSchedule"
	// ReasonRotationFailed signals that the newest rotation failed, or that old versions can still
	// decrypt and no retirement is planned.
	ReasonRotationFailed = "RotationFailed"
	// ReasonFloorsChanged signals that min_decryption_version of the key in Vault is not the value
	// that the operator has recorded.
	ReasonFloorsChanged = "FloorsChanged"
	// ReasonTrimFailed signals that old versions of the key could not be destroyed.
	ReasonTrimFailed = "TrimFailed"
	// ReasonHeldByBackup signals that old versions of the key are not destroyed because of backups:
	// one may need them, or a backup is being made, or it is not known what backups need. It is
	// also a reason of Ready while the object is being deleted: backups without escrow need the
	// key.
	ReasonHeldByBackup = "HeldByBackup"
)

// Reasons of BackupHealthy and of the conditions of a NotesBackup. A failed backup also has the
// reason of its Job, such as DestinationDenied.
const (
	// ReasonBackupComplete signals that the newest backup is complete.
	ReasonBackupComplete = "BackupComplete"
	// ReasonBackingUp signals that a backup is being made.
	ReasonBackingUp = "BackingUp"
	// ReasonBackupFailed signals that the newest backup failed and its Job gave no reason.
	ReasonBackupFailed = "BackupFailed"
	// ReasonBackupOverdue signals that no backup has completed for much longer than the schedule
	// says.
	ReasonBackupOverdue = "BackupOverdue"
	// ReasonDeletionRefused signals that the destination refuses to delete backups that
	// spec.backup.keep no longer keeps.
	ReasonDeletionRefused = "DeletionRefused"
	// ReasonDrillFailed signals that the last drill could not restore the newest backup and its Job
	// gave no reason.
	ReasonDrillFailed = "DrillFailed"
	// ReasonDrillOverdue signals that no drill has passed for much longer than the schedule says.
	ReasonDrillOverdue = "DrillOverdue"
	// ReasonBackupNotConfigured signals that the SecureNotes of a NotesBackup has no spec.backup.
	ReasonBackupNotConfigured = "BackupNotConfigured"
	// ReasonTooManyBackups signals that too many older NotesBackups of the same SecureNotes have
	// not ended.
	ReasonTooManyBackups = "TooManyBackups"
	// ReasonRolloutPending signals that a backup waits until the API pods have been replaced,
	// because a new release may migrate the database.
	ReasonRolloutPending = "RolloutPending"
)

// Reasons of the conditions of a NotesRestore. A failed restore also has the reason of its Job,
// such as BackupRefused.
const (
	// ReasonStopping signals that a restore waits until no pod of the SecureNotes is left.
	ReasonStopping = "Stopping"
	// ReasonRestoring signals that the Job of a restore is running. As a reason of Ready,
	// DatabaseReady and WorkloadReady, it signals that the SecureNotes stands still for a restore.
	ReasonRestoring = "Restoring"
	// ReasonRecording signals that the database is restored, and that the operator records in Vault
	// and in the SecureNotes which deployment it has.
	ReasonRecording = "Recording"
)

// Reasons of the conditions of a KeyRotation.
const (
	// ReasonQueued signals that the rotation, the backup or the restore waits for another one.
	ReasonQueued = "Queued"
	// ReasonTooManyRotations signals that too many older rotations have not ended.
	ReasonTooManyRotations = "TooManyRotations"
	// ReasonSecureNotesNotFound signals that the SecureNotes does not exist.
	ReasonSecureNotesNotFound = "SecureNotesNotFound"
	// ReasonSecureNotesNotReady signals that the SecureNotes has no master key yet.
	ReasonSecureNotesNotReady = "SecureNotesNotReady"
	// ReasonRotatingKey signals that a version is being added to the master key.
	ReasonRotatingKey = "RotatingKey"
	// ReasonReencrypting signals that the re-encryption Job is running.
	ReasonReencrypting = "Reencrypting"
	// ReasonVerifying signals that the verification Job is running.
	ReasonVerifying = "Verifying"
	// ReasonRecreatingAccounts signals that the service accounts are being recreated.
	ReasonRecreatingAccounts = "RecreatingAccounts"
	// ReasonRestartingPods signals that the API pods are restarting with new session keys.
	ReasonRestartingPods = "RestartingPods"
	// ReasonRevocationFailed signals that Vault could not drop every database user.
	ReasonRevocationFailed = "RevocationFailed"
	// ReasonComplete signals that a step, or the whole rotation, is done.
	ReasonComplete = "Complete"
	// ReasonJobFailed signals that a Job failed and its pods reported no reason.
	ReasonJobFailed = "JobFailed"
)

const (
	// Finalizer protects what a SecureNotes has in Vault, and a KeyRotation or a NotesRestore that
	// has started.
	Finalizer = "securenotes.dev/finalizer"

	// AnnotationAbandonVault with the value "true" lets a SecureNotes be deleted without its Vault.
	// It is for a Vault that is gone for good. What that Vault holds stays there.
	AnnotationAbandonVault = "securenotes.dev/abandon-vault"

	// AnnotationAcceptEmptyDatabase lets a SecureNotes with DatabaseReady=False/DatabaseLost start
	// with an empty database, once. Every account and every note is given up. The value is the
	// deployment ID. From the second time on, the condition's message shows the value to use.
	AnnotationAcceptEmptyDatabase = "securenotes.dev/accept-empty-database"

	// AnnotationTrimDespiteBackups lets spec.keyRotation.trim destroy versions of the master key
	// that backups need, or of which it is not known. The value is the oldest version that is kept,
	// which the message of HeldByBackup shows. Backups that need older versions can then only be
	// restored from their escrow.
	AnnotationTrimDespiteBackups = "securenotes.dev/trim-despite-backups"

	// AnnotationDeleteDespiteBackups with the value "true" lets a SecureNotes with deletionPolicy
	// Delete be deleted although backups without escrow exist. Nobody can restore them afterwards.
	AnnotationDeleteDespiteBackups = "securenotes.dev/delete-despite-backups"

	// AnnotationRotateRequestedAt requests a Routine rotation of a SecureNotes whenever its value
	// changes. The value has at most 64 characters; status.lastHandledRotateRequest repeats it. It
	// is for GitOps, where a KeyRotation object that is pruned and created again would rotate
	// again. A value from before the keys were created or adopted requests nothing.
	AnnotationRotateRequestedAt = "securenotes.dev/rotate-requested-at"

	// AnnotationBackupRequestedAt requests a backup of a SecureNotes whenever its value changes.
	// The value has at most 64 characters; status.backup.lastHandledRequest repeats it. A value
	// from before the keys were created or adopted, or from before spec.backup was set, requests
	// nothing.
	AnnotationBackupRequestedAt = "securenotes.dev/backup-requested-at"

	// AnnotationRetryRequestedAt retries a failed KeyRotation whenever its value changes. The value
	// has at most 64 characters; status.lastHandledRetryRequest repeats it.
	AnnotationRetryRequestedAt = "securenotes.dev/retry-requested-at"

	// AnnotationEnded holds the name of a KeyRotation, NotesBackup or NotesRestore that has ended.
	// Backup tools such as Velero restore metadata without the status, and what has ended must not
	// start again. The operator sets the annotation, removes it on a retry of a rotation, and skips
	// objects with 1,000 or more annotations.
	AnnotationEnded = "securenotes.dev/ended"

	// AnnotationStarted holds the name of a NotesRestore that has started. One that a backup tool
	// captured while it ran, and restored without the status, must not start again. The operator
	// sets the annotation, except on objects with 1,000 or more annotations.
	AnnotationStarted = "securenotes.dev/started"

	// LabelScheduled marks the KeyRotations and NotesBackups that a schedule created, so that
	// people can select them. Deletion of old ones uses status.createdBy, which only the operator
	// may write.
	LabelScheduled = "securenotes.dev/scheduled"
)
