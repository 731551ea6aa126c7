package operand

import (
	"cmp"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
)

const (
	// defaultDrillSchedule is early on Sundays.
	defaultDrillSchedule = "0 4 * * 0"
	defaultDrillSize     = "10Gi"
	// drillVolume is the name of the volume that a drill restores into.
	drillVolume = "drill"
)

// DrillSchedule returns when drills are made, in Cron format, and whether they are suspended.
// spec.backup must be set.
func DrillSchedule(sn *v1alpha1.SecureNotes) (schedule string, suspend bool) {
	policy := resolveDrill(sn)
	return cmp.Or(policy.Schedule, defaultDrillSchedule), ptr.Deref(policy.Suspend, false)
}

func resolveDrill(sn *v1alpha1.SecureNotes) v1alpha1.BackupDrill {
	if sn.Spec.Backup.Drill == nil {
		return v1alpha1.BackupDrill{}
	}
	return *sn.Spec.Backup.Drill
}

// UsesHybridRecipients reports whether the recipients of spec.backup have the form age1pq1….
func UsesHybridRecipients(sn *v1alpha1.SecureNotes) bool {
	return len(sn.Spec.Backup.Recipients) > 0 && config.IsHybridRecipient(string(sn.Spec.Backup.Recipients[0]))
}

// DrillStatus returns what the status records of the drills; it may be empty.
func DrillStatus(sn *v1alpha1.SecureNotes) *v1alpha1.DrillStatus {
	if sn.Status.Backup == nil || sn.Status.Backup.Drill == nil {
		return &v1alpha1.DrillStatus{}
	}
	return sn.Status.Backup.Drill
}

// drillRecipient returns the recipient of the drill that archives are encrypted to, or nothing: age
// refuses one of another form than the others.
func drillRecipient(sn *v1alpha1.SecureNotes) []string {
	identities := DrillStatus(sn).Identities
	if _, suspend := DrillSchedule(sn); suspend || len(identities) == 0 {
		return nil
	}
	recipient := string(identities[0].Recipient)
	if config.IsHybridRecipient(recipient) != UsesHybridRecipients(sn) {
		return nil
	}
	return []string{recipient}
}

// DrillJobName returns the name of the Job of the drill that was due at a time.
func DrillJobName(name string, due time.Time) string {
	return fmt.Sprintf("%s-drill-%d", name, due.Unix()/60)
}

// DrillConfigMapName returns the name of the ConfigMap with the configuration of drills.
func DrillConfigMapName(name string) string { return name + "-drill" }

// DrillServiceAccount returns the name of the service account of drill Jobs.
func DrillServiceAccount(name string) string { return name + config.ServiceAccountDrillSuffix }

// DrillConfigMap returns the configuration of the next drill. There is one at a time. spec.backup
// and an identity must be set. Error: the configuration is invalid; it names the field.
func DrillConfigMap(sn *v1alpha1.SecureNotes, env Environment) (*corev1.ConfigMap, error) {
	c := baseConfig(sn, env, config.RoleDrill)
	c.Keys.Vault.BackupKey = config.BackupKeyName(env.ClusterID, sn.Namespace, sn.Name)
	c.Database = config.Database{SQLite: &config.SQLite{Path: config.DrillDirectory + "/" + config.DatabaseFile}}
	drill := &config.Drill{Directory: config.DrillDirectory}
	for _, identity := range DrillStatus(sn).Identities {
		drill.Identities = append(drill.Identities, config.DrillEntry{Entry: identity.Entry, Recipient: string(identity.Recipient)})
	}
	if last := sn.Status.Backup.Last; last != nil {
		drill.Sequence = last.Sequence
	}
	c.Backup = &config.Backup{
		SecureNotesUID: string(sn.UID), Recipients: texts(sn.Spec.Backup.Recipients), Destination: destination(sn.Spec.Backup.Destination), Drill: drill,
	}
	file, err := config.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("configuration of drills: %w", err)
	}
	data := map[string]string{config.DrillFile: string(file)}
	if env.Connection.CABundle != "" {
		data[config.VaultCAFile] = env.Connection.CABundle
	}
	return &corev1.ConfigMap{ObjectMeta: meta(sn, DrillConfigMapName(sn.Name), ComponentDrill), Data: data}, nil
}

// DrillJob returns the Job that restores the newest backup into a volume of its own. The pod has
// nothing of the database of the service. least is the lowest CPU request that the namespace
// allows; see [LeastCPU].
func DrillJob(sn *v1alpha1.SecureNotes, env Environment, name string, least resource.Quantity) *batchv1.Job {
	spec, c := podSpec(sn, env, DrillServiceAccount(sn.Name)), container(sn, env, JobContainer, config.DrillArgs()...)
	lowerCPU(sn, c.Resources.Requests, least)
	spec.Volumes, c.VolumeMounts = nil, nil
	for _, volume := range volumes(sn, env) {
		if cm := volume.ConfigMap; cm != nil {
			cm.Name = DrillConfigMapName(sn.Name)
		}
		if volume.ConfigMap != nil || volume.Projected != nil {
			spec.Volumes = append(spec.Volumes, volume)
		}
	}
	for _, mount := range mounts(sn) {
		if mount.MountPath == config.ConfigDirectory || mount.MountPath == config.VaultTokenDirectory {
			c.VolumeMounts = append(c.VolumeMounts, mount)
		}
	}
	destinations, read := destinationVolumes(sn.Spec.Backup.Destination)
	spec.Volumes, c.VolumeMounts = append(spec.Volumes, destinations...), append(c.VolumeMounts, read...)
	spec.Volumes = append(spec.Volumes, drillStorage(sn))
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: drillVolume, MountPath: config.DrillDirectory})
	job := jobOf(sn, meta(sn, name, ComponentDrill), 1, spec, c)
	job.Spec.Template.Spec.Affinity = nil // it does not mount the volume of the embedded database
	job.Spec.ActiveDeadlineSeconds = new(int64(backupDeadlineSeconds))
	return job
}

// drillStorage returns the volume of a drill, which Kubernetes creates and deletes with the pod.
func drillStorage(sn *v1alpha1.SecureNotes) corev1.Volume {
	size, class := defaultDrillSize, (*string)(nil)
	if storage := resolveDrill(sn).Storage; storage != nil {
		size = cmp.Or(storage.Size, defaultDrillSize)
		if storage.StorageClassName != "" {
			class = &storage.StorageClassName
		}
	}
	quantity, err := readQuantity(size)
	if err != nil {
		// An older schema may have allowed it. It counts as unset.
		quantity = resource.MustParse(defaultDrillSize)
	}
	return corev1.Volume{Name: drillVolume, VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{
		VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: class,
			// What the API server sets; see [Difference].
			VolumeMode: new(corev1.PersistentVolumeFilesystem),
			Resources:  corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: quantity}},
		}},
	}}}
}
