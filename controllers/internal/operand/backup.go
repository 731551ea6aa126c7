package operand

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
)

const (
	// backupDeadlineSeconds ends a backup that makes no progress, for example because a Secret is
	// missing or a file system hangs: a later backup waits for it. Rotation Jobs have no deadline,
	// because a rotation must end and no other one would do its work. A backup that takes a day
	// would not keep up with a daily schedule. The service removes what a backup of two days ago
	// has left, so the deadline must be shorter than that.
	backupDeadlineSeconds = 24 * 60 * 60
	// backupLogSeconds is how long the Job and the log of its pod are kept. Its NotesBackup, which
	// has what the pod reported, stays longer.
	backupLogSeconds = 24 * 60 * 60

	// maxBackupJobName leaves room for the index and the random part that the Job controller adds
	// to the names of pods, which have at most 63 characters.
	maxBackupJobName = 52
	// hashDigits is how many hexadecimal digits of a hash are part of a name.
	hashDigits = 10
)

// BackupWork describes the Job of a NotesBackup.
type BackupWork struct {
	// Owner is the NotesBackup, which controls the Job.
	Owner *metav1.OwnerReference
	// Name of the Job; see [BackupJobName].
	Name string
	// ConfigMap is the name of [BackupConfigMap].
	ConfigMap string
	// LeastCPU is the lowest CPU request that the namespace allows. See [LeastCPU].
	LeastCPU resource.Quantity
}

// ofRotation matches the names of the Jobs of rotations, retirements and trims, and those of
// drills.
var ofRotation = regexp.MustCompile(`-(rotate|verify|retire|trim)-v[0-9]+-[0-9]+$|-drill-[0-9]+$`)

// BackupJobName returns the name of the Job of a NotesBackup: the name of the NotesBackup, or one
// with a hash of it if no Job can have that name, or if the Job of a rotation or a drill may have
// it.
func BackupJobName(backup string) string {
	if len(backup) <= maxBackupJobName && len(validation.IsDNS1123Label(backup)) == 0 && !ofRotation.MatchString(backup) {
		return backup
	}
	readable := strings.ReplaceAll(backup, ".", "-")
	readable = readable[:min(len(readable), maxBackupJobName-hashDigits-1)]
	return strings.TrimRight(readable, "-") + "-" + shortHash(backup)
}

func shortHash(texts ...string) string {
	h := sha256.New()
	for _, text := range texts {
		// The length separates one text from the next.
		fmt.Fprintf(h, "%d:%s", len(text), text)
	}
	return hex.EncodeToString(h.Sum(nil))[:hashDigits]
}

// BackupJob returns the Job that makes the backup of a NotesBackup, whose SecureNotes has a
// spec.backup.
func BackupJob(sn *v1alpha1.SecureNotes, env Environment, work BackupWork) *batchv1.Job {
	account := BackupServiceAccount(sn.Name)
	if sn.Spec.Backup.Escrow != nil {
		account = BackupEscrowServiceAccount(sn.Name)
	}
	spec, c := podSpec(sn, env, account), container(sn, env, JobContainer, config.BackupArgs()...)
	lowerCPU(sn, c.Resources.Requests, work.LeastCPU)
	nameConfigMap(spec.Volumes, work.ConfigMap)
	volumes, mounts := destinationVolumes(sn.Spec.Backup.Destination)
	spec.Volumes, c.VolumeMounts = append(spec.Volumes, volumes...), append(c.VolumeMounts, mounts...)
	object := meta(sn, work.Name, ComponentBackup)
	object.OwnerReferences = []metav1.OwnerReference{*work.Owner}
	job := jobOf(sn, object, 1, spec, c)
	job.Spec.ActiveDeadlineSeconds = new(int64(backupDeadlineSeconds))
	job.Spec.TTLSecondsAfterFinished = new(int32(backupLogSeconds))
	return job
}

// nameConfigMap has the volume with the configuration refer to another ConfigMap.
func nameConfigMap(volumes []corev1.Volume, name string) {
	for i := range volumes {
		if cm := volumes[i].ConfigMap; cm != nil {
			cm.Name = name
		}
	}
}

// destinationVolumes returns the volumes of a destination, and where the program reads them.
func destinationVolumes(d v1alpha1.BackupDestination) (volumes []corev1.Volume, mounts []corev1.VolumeMount) {
	if claim := d.PersistentVolumeClaim; claim != nil {
		return []corev1.Volume{{Name: "backups", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim.ClaimName},
		}}}, []corev1.VolumeMount{{Name: "backups", MountPath: config.BackupsDirectory}}
	}
	if ref := d.ObjectStore.CredentialsSecretRef; ref != nil {
		// It is optional because one of its keys is. If the Secret is missing, the program reports
		// it.
		source := &corev1.SecretVolumeSource{SecretName: ref.Name, Optional: new(true)}
		for _, file := range []string{config.AccessKeyIDFile, config.SecretAccessKeyFile, config.SessionTokenFile} {
			source.Items = append(source.Items, corev1.KeyToPath{Key: file, Path: file})
		}
		volumes = append(volumes, corev1.Volume{Name: "backup-credentials", VolumeSource: corev1.VolumeSource{Secret: source}})
		mounts = append(mounts, corev1.VolumeMount{Name: "backup-credentials", MountPath: config.BackupCredentialsDirectory, ReadOnly: true})
	}
	if ref := d.ObjectStore.CASecretRef; ref != nil {
		// It is not optional: the pod waits for the Secret. The program would end the Job without
		// it.
		volume := secretKeyVolume("backup-ca", *ref, config.CAFile)
		volume.Secret.Optional = nil
		volumes = append(volumes, volume)
		mounts = append(mounts, corev1.VolumeMount{Name: "backup-ca", MountPath: config.BackupCADirectory, ReadOnly: true})
	}
	return volumes, mounts
}

// BackupConfigMap returns the configuration of the Job of a NotesBackup. Its name has a hash of the
// NotesBackup and of the content, so that a Job keeps the configuration that it was created for.
// Error: the configuration is invalid; it names the field.
func BackupConfigMap(nb *v1alpha1.NotesBackup, sn *v1alpha1.SecureNotes, env Environment) (*corev1.ConfigMap, error) {
	c := backupConfig(sn, env)
	if start := nb.Status.StartTime; start != nil {
		c.Backup.StartedAt = start.UTC().Truncate(time.Second) // as the status has it
	}
	backup, err := config.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("configuration of backups: %w", err)
	}
	data := map[string]string{config.BackupFile: string(backup)}
	if env.Connection.CABundle != "" {
		data[config.VaultCAFile] = env.Connection.CABundle
	}
	object := meta(sn, sn.Name+"-backup-"+hashOfData(string(nb.UID), data), ComponentBackup)
	object.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(nb, v1alpha1.GroupVersion.WithKind("NotesBackup"))}
	return &corev1.ConfigMap{ObjectMeta: object, Immutable: new(true), Data: data}, nil
}

// hashOfData returns a short hash of an owner's UID and the data of a ConfigMap.
func hashOfData(uid string, data map[string]string) string {
	hashed := []string{uid}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		hashed = append(hashed, key, data[key])
	}
	return shortHash(hashed...)
}

func backupConfig(sn *v1alpha1.SecureNotes, env Environment) *config.Config {
	policy, role := sn.Spec.Backup, config.RoleBackup
	backup := &config.Backup{
		SecureNotesUID: string(sn.UID), Recipients: append(texts(policy.Recipients), drillRecipient(sn)...), Destination: destination(policy.Destination),
	}
	if policy.Escrow != nil {
		role, backup.Escrow = config.RoleBackupEscrow, &config.Escrow{Recipients: texts(policy.Escrow.Recipients)}
	}
	if keep := policy.Keep; keep != nil {
		count, age := ResolveKeep(keep)
		backup.Keep = &config.Keep{Count: count, Age: config.Duration(age)}
	}
	c := baseConfig(sn, env, role)
	c.Keys.Vault.BackupKey = config.BackupKeyName(env.ClusterID, sn.Namespace, sn.Name)
	if policy.Escrow != nil {
		c.Keys.Vault.Pepper, c.Keys.Vault.PepperDigest = env.Pepper, env.PepperDigest
	}
	c.Backup = backup
	return c
}

func texts(recipients []v1alpha1.AgeRecipient) []string {
	var all []string
	for _, recipient := range recipients {
		all = append(all, string(recipient))
	}
	return all
}

func destination(d v1alpha1.BackupDestination) config.Destination {
	if d.PersistentVolumeClaim != nil {
		return config.Destination{Directory: &config.Directory{Path: config.BackupsDirectory + "/" + config.BackupsSubdirectory}}
	}
	store := &config.ObjectStore{URL: d.ObjectStore.URL}
	if d.ObjectStore.CredentialsSecretRef != nil {
		store.CredentialsDirectory = config.BackupCredentialsDirectory
	}
	if d.ObjectStore.CASecretRef != nil {
		store.CAFile = config.BackupCADirectory + "/" + config.CAFile
	}
	return config.Destination{ObjectStore: store}
}

// BackupLocation returns where the backups of a SecureNotes are: the URL without its query, or
// persistentVolumeClaim/NAME.
func BackupLocation(d v1alpha1.BackupDestination) string {
	if d.PersistentVolumeClaim != nil {
		return "persistentVolumeClaim/" + d.PersistentVolumeClaim.ClaimName
	}
	url, _, _ := strings.Cut(d.ObjectStore.URL, "?")
	return url
}
