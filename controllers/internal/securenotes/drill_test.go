package securenotes

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

const testEntry = "drill-aaaaaaaaaaaaaaaa"

// drilling changes a scope so that a drill has been started, of a backup that it can open.
func drilling(s *scope) {
	identity := v1alpha1.DrillIdentity{Entry: testEntry, Recipient: personsRecipient, KeyVersion: 2, Since: metav1.NewTime(now.Add(-48 * time.Hour))}
	s.sn.CreationTimestamp = metav1.NewTime(now.Add(-49 * time.Hour))
	s.sn.Spec.Backup = &v1alpha1.BackupPolicy{
		Recipients:  []v1alpha1.AgeRecipient{personsRecipient},
		Destination: v1alpha1.BackupDestination{PersistentVolumeClaim: &v1alpha1.BackupVolume{ClaimName: "backups"}},
	}
	s.sn.Status.Backup = &v1alpha1.BackupStatus{
		Last: &v1alpha1.LastBackup{Name: "first", CompletionTime: new(metav1.NewTime(now)), BackupResult: v1alpha1.BackupResult{
			Sequence: 7, Location: "persistentVolumeClaim/backups", SnapshotTime: new(metav1.NewTime(now.Add(-time.Hour))),
		}},
		Drill: &v1alpha1.DrillStatus{
			Identities: []v1alpha1.DrillIdentity{identity}, StartTime: new(metav1.NewTime(now)), LastScheduleTime: new(metav1.NewTime(now)),
			ObservedSchedule: &v1alpha1.ObservedSchedule{Schedule: "0 4 * * 0", TimeZone: "Etc/UTC", Since: s.sn.CreationTimestamp},
		},
	}
	s.original = s.sn.DeepCopy()
	s.backupFinding = good(v1alpha1.ReasonBackupComplete, "fine")
	s.env.Connection = drillVault{}.Connection()
	s.connected = true
}

// drillPass runs the phase, and returns the status of the drills.
func drillPass(t *testing.T, r *Reconciler, s *scope) *v1alpha1.DrillStatus {
	t.Helper()
	if err := r.manageDrill(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return operand.DrillStatus(s.sn)
}

// startDrill returns a reconciler with the Job of a drill, and the status that records it.
func startDrill(t *testing.T, vault *fakeVault, changes ...func(*scope)) (*Reconciler, *scope) {
	t.Helper()
	r := applyingReconciler(t, vault)
	s := healthy(append([]func(*scope){drilling}, changes...)...)
	if status := drillPass(t, r, s); status.JobUID == "" && len(changes) == 0 {
		job := drillJob(t, r)
		job.UID = "job"
		if err := r.Client.Update(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
	return r, s
}

func drillJob(t *testing.T, r *Reconciler) *batchv1.Job {
	t.Helper()
	job := &batchv1.Job{}
	if err := r.Client.Get(t.Context(), client.ObjectKey{Namespace: "demo", Name: operand.DrillJobName("notes", now)}, job); err != nil {
		t.Fatal(err)
	}
	return job
}

// endDrillJob ends the Job of the drill, with the termination message of its pod.
func endDrillJob(t *testing.T, r *Reconciler, condition batchv1.JobConditionType, message string) {
	t.Helper()
	job, code := drillJob(t, r), int32(0)
	if condition == batchv1.JobFailed {
		code = config.ExitConfiguration
	} else {
		job.Status.Succeeded, job.Status.CompletedIndexes = 1, "0"
	}
	job.Status.Conditions = []batchv1.JobCondition{{Type: condition, Status: corev1.ConditionTrue, Message: "it has ended"}}
	if err := r.Client.Status().Update(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: job.Name + "-0-abcde", Namespace: job.Namespace, Labels: map[string]string{batchv1.JobNameLabel: job.Name},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(job, batchv1.SchemeGroupVersion.WithKind("Job"))},
		},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
			Name: operand.JobContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Message: message}},
		}}},
	}
	if err := r.Client.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
}

// reported returns the message of a drill that has passed, changed.
func reported(old, changed string) string {
	message := fmt.Sprintf(`{"reason":"Complete","message":"it is restored","drill":{"result":"Passed","id":"20260101T000000Z-aaaaaaaaaaaaaaaa","sequence":7,`+
		`"entry":%q,"accounts":3,"notes":4,"ownerKeys":5,"values":6}}`, testEntry)
	return strings.Replace(message, old, changed, 1)
}

// TestDrillReports checks what the operator believes of a Job that has ended.
func TestDrillReports(t *testing.T) {
	t.Parallel()
	const retired = `"result":"VersionsRetired","id":"20260101T000000Z-aaaaaaaaaaaaaaaa","sequence":7,"entry":"` + testEntry + `","accounts":3,"notes":4,"ownerKeys":0,"values":0}}`
	whole := reported("", "")
	for name, tc := range map[string]struct {
		message string
		failed  bool
		result  v1alpha1.DrillResult
		says    string
	}{
		"passed":                          {message: whole, result: v1alpha1.DrillPassed, says: "it is restored"},
		"retired":                         {message: `{"reason":"Complete","message":"it is intact","drill":{` + retired, result: v1alpha1.DrillVersionsRetired, says: "it is intact"},
		"nothing":                         {message: "", result: v1alpha1.DrillFailed, says: "reported nothing"},
		"no JSON":                         {message: "fine", result: v1alpha1.DrillFailed, says: "cannot be read"},
		"unknown field":                   {message: reported(`"accounts"`, `"x":1,"accounts"`), result: v1alpha1.DrillFailed, says: "cannot be read"},
		"more than one":                   {message: whole + whole, result: v1alpha1.DrillFailed, says: "cannot be read"},
		"a backup":                        {message: `{"reason":"Complete","message":"x"}`, result: v1alpha1.DrillFailed, says: "no drill"},
		"another result":                  {message: reported("Passed", "Fine"), result: v1alpha1.DrillFailed, says: "value of result"},
		"failed, but complete":            {message: reported(`"Complete"`, `"BackupRefused"`), result: v1alpha1.DrillFailed, says: "reported no"},
		"another id":                      {message: reported("20260101T", "../0101T"), result: v1alpha1.DrillFailed, says: "value of id"},
		"no sequence":                     {message: reported(`"sequence":7`, `"sequence":0`), result: v1alpha1.DrillFailed, says: "value of sequence"},
		"another identity":                {message: reported(testEntry, "drill-bbbbbbbbbbbbbbbb"), result: v1alpha1.DrillFailed, says: "value of entry"},
		"negative":                        {message: reported(`"notes":4`, `"notes":-4`), result: v1alpha1.DrillFailed, says: "value of notes"},
		"too many":                        {message: reported(`"values":6`, `"values":9000000000000000000`), result: v1alpha1.DrillFailed, says: "value of values"},
		"retired, and opened":             {message: reported("Passed", "VersionsRetired"), result: v1alpha1.DrillFailed, says: "value of ownerKeys"},
		"a secret":                        {message: reported("it is restored", "the token hvs.AAAAAAAAAAAAAAAAAAAAAAAA"), result: v1alpha1.DrillPassed, says: "the token …"},
		"failed, with a reason":           {message: `{"reason":"DestinationDenied","message":"no right"}`, failed: true, result: v1alpha1.DrillFailed, says: "no right"},
		"failed, without a word":          {message: "", failed: true, result: v1alpha1.DrillFailed, says: "it has ended"},
		"failed, and says that it passed": {message: whole, failed: true, result: v1alpha1.DrillFailed, says: "it is restored"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, s := startDrill(t, &fakeVault{})
			condition := batchv1.JobComplete
			if tc.failed {
				condition = batchv1.JobFailed
			}
			endDrillJob(t, r, condition, tc.message)
			status := drillPass(t, r, s)
			if status.Result != tc.result || !strings.Contains(status.Message, tc.says) || status.StartTime != nil || status.JobUID != "" || status.LastTime == nil {
				t.Errorf("the status is %+v, want %s with %q", status, tc.result, tc.says)
			}
			intact := tc.result != v1alpha1.DrillFailed
			if (status.LastPassedTime != nil) != intact || (status.LastEntry != "") != intact || (status.LastID != "") != intact || (status.Notes == 4) != intact {
				t.Errorf("the status is %+v, and the drill has passed: %t", status, intact)
			}
			drillPass(t, r, s)
			if f := s.backupFinding; (f.status == metav1.ConditionTrue) != intact || !intact && !strings.Contains(f.message, tc.says) {
				t.Errorf("BackupHealthy is %+v", f)
			}
			if want := v1alpha1.ReasonDrillFailed; name == "nothing" && s.backupFinding.reason != want || name == "failed, with a reason" && s.backupFinding.reason != "DestinationDenied" {
				t.Errorf("the reason is %s", s.backupFinding.reason)
			}
		})
	}
}

// TestDrillJobs checks what happens to the Job of a drill.
func TestDrillJobs(t *testing.T) {
	t.Parallel()
	t.Run("created", func(t *testing.T) {
		r, s := startDrill(t, &fakeVault{})
		job := drillJob(t, r)
		pod := job.Spec.Template.Spec
		if pod.ServiceAccountName != "notes-securenotes-drill" || !metav1.IsControlledBy(job, s.sn) || job.Labels[operand.LabelComponent] != operand.ComponentDrill {
			t.Errorf("the Job is %+v", job)
		}
		for _, volume := range pod.Volumes {
			if volume.Secret != nil || volume.PersistentVolumeClaim != nil && volume.PersistentVolumeClaim.ClaimName != "backups" {
				t.Errorf("the pod has the volume %+v", volume)
			}
		}
		cm := &corev1.ConfigMap{}
		if err := r.Client.Get(t.Context(), client.ObjectKey{Namespace: "demo", Name: "notes-drill"}, cm); err != nil {
			t.Fatal(err)
		}
		c, err := config.Parse([]byte(cm.Data[config.DrillFile]))
		if err != nil || c.Backup.Drill.Sequence != 7 || c.Backup.Drill.Identities[0] != (config.DrillEntry{Entry: testEntry, Recipient: personsRecipient}) || c.Keys.Vault.Role != config.RoleDrill ||
			c.Database.Postgres != nil || c.Backup.SecureNotesUID != "uid" {
			t.Errorf("the configuration is %+v, %v", c, err)
		}
	})
	t.Run("deleted by someone", func(t *testing.T) {
		r, s := startDrill(t, &fakeVault{})
		s.sn.Status.Backup.Drill.JobUID = "job"
		if err := r.Client.Delete(t.Context(), drillJob(t, r)); err != nil {
			t.Fatal(err)
		}
		if status := drillPass(t, r, s); status.JobUID != "" || status.StartTime == nil {
			t.Errorf("the status is %+v", status)
		}
		drillPass(t, r, s)
		drillJob(t, r)
	})
	t.Run("of someone else", func(t *testing.T) {
		r := applyingReconciler(t, &fakeVault{}, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: operand.DrillJobName("notes", now)}})
		s := healthy(drilling)
		if status := drillPass(t, r, s); status.Result != v1alpha1.DrillFailed || !strings.Contains(status.Message, "does not belong to notes") {
			t.Errorf("the status is %+v", status)
		}
	})
	t.Run("of an earlier drill", func(t *testing.T) {
		earlier := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "notes-drill-1", UID: "earlier", Labels: operand.Labels(object(), operand.ComponentDrill)}}
		earlier.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(object(), v1alpha1.GroupVersion.WithKind("SecureNotes"))}
		r := applyingReconciler(t, &fakeVault{}, earlier)
		drillPass(t, r, healthy(drilling))
		list := &batchv1.JobList{}
		if err := r.Client.List(t.Context(), list); err != nil || len(list.Items) != 1 || list.Items[0].Name != operand.DrillJobName("notes", now) {
			t.Errorf("the Jobs are %+v, %v", list.Items, err)
		}
	})
	for name, change := range map[string]func(*scope){
		"suspended":         func(s *scope) { s.sn.Spec.Backup.Drill = &v1alpha1.BackupDrill{Suspend: new(true)} },
		"spec.backup unset": func(s *scope) { s.sn.Spec.Backup = nil },
	} {
		t.Run(name, func(t *testing.T) {
			r, s := startDrill(t, &fakeVault{})
			s.sn.Status.Backup.Drill.NextIdentity = new(s.sn.Status.Backup.Drill.Identities[0])
			if err := r.Client.Create(t.Context(), s.sn); err != nil {
				t.Fatal(err)
			}
			change(s)
			status := drillPass(t, r, s)
			list := &batchv1.JobList{}
			if err := r.Client.List(t.Context(), list); err != nil || len(list.Items) != 0 || status.StartTime != nil || len(status.Identities) != 0 || status.NextIdentity != nil {
				t.Errorf("left %+v and %+v, %v", status, list.Items, err)
			}
			if computed := computeStatus(s); s.sn.Spec.Backup == nil && computed.Backup != nil {
				t.Errorf("status.backup is %+v", computed.Backup)
			}
		})
	}
}

// TestDrillIdentitiesStayRecorded checks that an identity that cannot be destroyed yet stays in the
// status, also after spec.backup was unset.
func TestDrillIdentitiesStayRecorded(t *testing.T) {
	t.Parallel()
	vault := &fakeVault{refusal: &vaultadmin.Error{Problem: vaultadmin.Unreachable}}
	r, s := startDrill(t, &fakeVault{})
	r.Vault = func(string) (Vault, bool) { return vault, true }
	s.sn.Spec.Backup = nil
	drillPass(t, r, s)
	status := computeStatus(s)
	if status.Backup == nil || len(status.Backup.Drill.Identities) != 1 || status.Backup.Drill.StartTime != nil || status.Backup.Last != nil {
		t.Errorf("status.backup is %+v", status.Backup)
	}
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionBackupHealthy); c != nil {
		t.Errorf("the condition is %+v", c)
	}
	vault.refusal = nil
	drillPass(t, r, s)
	if status := computeStatus(s); status.Backup != nil {
		t.Errorf("status.backup is %+v", status.Backup)
	}
}

// TestDrillRights checks that missing rights are a fault of the drill alone, and change nothing.
func TestDrillRights(t *testing.T) {
	t.Parallel()
	denied := vaultadmin.NeededBy("the drill of backups", &vaultadmin.Error{Problem: vaultadmin.Denied})
	r := applyingReconciler(t, &fakeVault{refusal: denied})
	s := healthy(drilling, func(s *scope) {
		s.sn.Status.Backup.Drill.Identities, s.sn.Status.Backup.Drill.StartTime = nil, nil
		s.original = s.sn.DeepCopy()
	})
	before := s.sn.DeepCopy()
	status := drillPass(t, r, s)
	if len(status.Identities) > 0 || status.NextIdentity != nil || status.StartTime != nil {
		t.Errorf("the status is %+v", status)
	}
	if f := s.backupFinding; f.status != metav1.ConditionFalse || f.reason != v1alpha1.ReasonSetupMissing || !strings.Contains(f.message, "operator vault-setup") || !strings.Contains(f.message, "backups are made without it") {
		t.Errorf("BackupHealthy is %+v", f)
	}
	if s.vaultFinding.status != metav1.ConditionTrue || s.requeue.after < time.Minute {
		t.Errorf("Vault is %+v, and the next pass after %s", s.vaultFinding, s.requeue.after)
	}
	s.env.Connection = drillVault{}.Connection()
	cm, err := operand.BackupConfigMap(backup("first"), before, s.env)
	if err != nil || strings.Count(cm.Data[config.BackupFile], "age1") != 1 {
		t.Errorf("the backup has the configuration %+v, %v", cm, err)
	}
}

// TestDrillHealth checks what BackupHealthy says of the drills.
func TestDrillHealth(t *testing.T) {
	t.Parallel()
	idle := func(s *scope) { s.sn.Status.Backup.Drill.StartTime = nil }
	for name, tc := range map[string]struct {
		change func(*scope)
		reason string
		says   string
	}{
		"none was due": {change: func(*scope) {}, reason: v1alpha1.ReasonBackupComplete},
		"passed before": {change: func(s *scope) {
			s.sn.Status.Backup.Drill.LastPassedTime = new(metav1.NewTime(now.Add(-7 * 24 * time.Hour)))
		}, reason: v1alpha1.ReasonBackupComplete},
		"overdue": {change: func(s *scope) {
			s.sn.Status.Backup.Drill.ObservedSchedule.Since = metav1.NewTime(now.Add(-30 * 24 * time.Hour))
			s.sn.Status.Backup.Drill.LastScheduleTime = new(metav1.NewTime(now))
		}, reason: v1alpha1.ReasonDrillOverdue, says: "see the Job notes-drill-"},
		"overdue for less than a day": {change: func(s *scope) {
			s.sn.Spec.Backup.Drill = &v1alpha1.BackupDrill{Schedule: "0 4 * * *"} // it is 08:00
			s.sn.Status.Backup.Drill.LastPassedTime = new(metav1.NewTime(now.Add(-51 * time.Hour)))
		}, reason: v1alpha1.ReasonBackupComplete},
		"overdue for more than a day": {change: func(s *scope) {
			s.sn.Spec.Backup.Drill = &v1alpha1.BackupDrill{Schedule: "0 4 * * *"}
			s.sn.Status.Backup.Drill.ObservedSchedule.Since = metav1.NewTime(now.Add(-99 * time.Hour))
			s.sn.Status.Backup.Drill.LastPassedTime = new(metav1.NewTime(now.Add(-77 * time.Hour)))
		}, reason: v1alpha1.ReasonDrillOverdue},
		"overdue since the last that passed": {change: func(s *scope) {
			s.sn.Status.Backup.Drill.ObservedSchedule.Since = metav1.NewTime(now.Add(-300 * 24 * time.Hour))
			s.sn.Status.Backup.Drill.LastPassedTime = new(metav1.NewTime(now.Add(-16 * 24 * time.Hour)))
		}, reason: v1alpha1.ReasonDrillOverdue, says: "no drill has restored a backup since " + instant(now.Add(-16*24*time.Hour))},
		"overdue, because there is no newer backup": {change: func(s *scope) {
			s.sn.Status.Backup.Drill.ObservedSchedule.Since = metav1.NewTime(now.Add(-30 * 24 * time.Hour))
			s.sn.Status.Backup.Last.SnapshotTime = new(metav1.NewTime(now.Add(-49 * time.Hour)))
		}, reason: v1alpha1.ReasonDrillOverdue, says: "older than the identity of the drill: create a NotesBackup"},
		"overdue, in another destination": {change: func(s *scope) {
			s.sn.Status.Backup.Drill.ObservedSchedule.Since = metav1.NewTime(now.Add(-30 * 24 * time.Hour))
			s.sn.Status.Backup.Last.Location = "https://s3.example.com/notes"
		}, reason: v1alpha1.ReasonDrillOverdue, says: "no backup in the destination"},
		"overdue, after a Compromise": {change: func(s *scope) {
			s.sn.Status.Backup.Drill.ObservedSchedule.Since = metav1.NewTime(now.Add(-30 * 24 * time.Hour))
			s.sn.Status.BackupKeys = &v1alpha1.BackupKeysStatus{Versions: []v1alpha1.BackupKeyVersion{{Version: 1}, {Version: 2, Since: metav1.NewTime(now)}}}
		}, reason: v1alpha1.ReasonDrillOverdue, says: "older than the version of the key that signs"},
		"no backup yet": {change: func(s *scope) {
			s.sn.Status.Backup.Drill.ObservedSchedule.Since = metav1.NewTime(now.Add(-30 * 24 * time.Hour))
			s.sn.Status.Backup.Last = nil
		}, reason: v1alpha1.ReasonBackupComplete},
		"suspended": {change: func(s *scope) {
			s.sn.Status.Backup.Drill.ObservedSchedule.Since = metav1.NewTime(now.Add(-30 * 24 * time.Hour))
			s.sn.Spec.Backup.Drill = &v1alpha1.BackupDrill{Suspend: new(true)}
		}, reason: v1alpha1.ReasonBackupComplete},
		"retired versions": {change: func(s *scope) { s.sn.Status.Backup.Drill.Result = v1alpha1.DrillVersionsRetired }, reason: v1alpha1.ReasonBackupComplete},
		"failed": {change: func(s *scope) {
			s.sn.Status.Backup.Drill.Result, s.sn.Status.Backup.Drill.LastTime = v1alpha1.DrillFailed, new(metav1.NewTime(now))
			s.sn.Status.Backup.Drill.Message, s.sn.Status.Backup.Drill.NextTime = "it is damaged", new(metav1.NewTime(now.Add(time.Hour)))
		}, reason: v1alpha1.ReasonDrillFailed, says: "it is damaged; the next drill is at " + instant(now.Add(time.Hour))},
		"the backups have a fault": {change: func(s *scope) {
			s.sn.Status.Backup.Drill.Result, s.sn.Status.Backup.Drill.LastTime = v1alpha1.DrillFailed, new(metav1.NewTime(now))
			s.backupFinding = bad(v1alpha1.ReasonBackupFailed, "it failed")
		}, reason: v1alpha1.ReasonBackupFailed},
		"Vault was not asked": {change: func(s *scope) { s.backupFinding = finding{} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := healthy(drilling, idle, tc.change)
			judgeDrill(s)
			if f := s.backupFinding; f.reason != tc.reason || !strings.Contains(f.message, tc.says) {
				t.Errorf("BackupHealthy is %+v, want %s with %q", f, tc.reason, tc.says)
			}
		})
	}
}

// TestFailedDrillIsRepeated checks when a drill that has failed is made again.
func TestFailedDrillIsRepeated(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		schedule string
		failed   time.Duration // before now
		next     time.Time
		started  bool
	}{
		"a day later":                {schedule: "0 4 * * 0", failed: time.Hour, next: now.Add(23 * time.Hour)},
		"earlier, if it is due":      {schedule: "0 9 * * *", failed: time.Hour, next: now.Truncate(24 * time.Hour).Add(9 * time.Hour)},
		"now":                        {schedule: "0 4 * * 0", failed: 24 * time.Hour, started: true},
		"now, and not by schedule":   {schedule: "0 9 * * *", failed: 25 * time.Hour, started: true},
		"just before it is repeated": {schedule: "0 4 * * 0", failed: 24*time.Hour - time.Second, next: now.Add(time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy(drilling)
			status := s.sn.Status.Backup.Drill
			s.sn.Spec.Backup.Drill = &v1alpha1.BackupDrill{Schedule: tc.schedule}
			status.ObservedSchedule.Schedule = tc.schedule
			status.Result, status.LastTime, status.StartTime = v1alpha1.DrillFailed, new(metav1.NewTime(now.Add(-tc.failed))), nil
			drillPass(t, applyingReconciler(t, &fakeVault{}), s)
			if (status.StartTime != nil) != tc.started || !tc.started && !status.NextTime.Time.Equal(tc.next) {
				t.Errorf("the status is %+v, want a start: %t, or the next at %s", status, tc.started, tc.next)
			}
		})
	}
}

// TestInvalidDrillSchedule checks that a schedule that cannot be read is reported, with its field.
func TestInvalidDrillSchedule(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*scope){
		"spec.backup.drill.schedule \"0 0 30 2 *\"": func(s *scope) { s.sn.Spec.Backup.Drill = &v1alpha1.BackupDrill{Schedule: "0 0 30 2 *"} },
		"spec.backup.timeZone \"Mars\"":             func(s *scope) { s.sn.Spec.Backup.TimeZone = "Mars" },
	} {
		s := healthy(drilling, change)
		s.sn.Status.Backup.Drill.StartTime = nil
		drillPass(t, applyingReconciler(t, &fakeVault{}), s)
		if f := s.backupFinding; f.reason != v1alpha1.ReasonInvalidSchedule || !strings.Contains(f.message, want) {
			t.Errorf("BackupHealthy is %+v, want %q", f, want)
		}
	}
}

// TestStaleDrillIdentity checks that an identity is not destroyed because of a stale status: it may
// be in use meanwhile.
func TestStaleDrillIdentity(t *testing.T) {
	t.Parallel()
	s := healthy(drilling)
	status := s.sn.Status.Backup.Drill
	status.NextIdentity, status.Identities, status.StartTime = &status.Identities[0], nil, nil
	s.original = s.sn.DeepCopy()
	s.sn.ResourceVersion = "1"
	later := s.sn.DeepCopy()
	later.ResourceVersion = "" // the API server sets it
	vault := &countingVault{}
	r := applyingReconciler(t, &fakeVault{})
	r.Vault = func(string) (Vault, bool) { return vault, true }
	if err := r.Client.Create(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	if err := r.Client.Update(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	if err := r.manageDrill(t.Context(), s); err == nil || vault.destroyed > 0 {
		t.Errorf("error %v, %d destroyed", err, vault.destroyed)
	}
}

// countingVault counts destroyed identities.
type countingVault struct {
	fakeVault
	destroyed int
	refused   error
}

func (v *countingVault) DestroyDrillIdentity(context.Context, vaultadmin.Deployment, string) error {
	v.destroyed++
	return v.refused
}

// TestDeletionDropsDrillIdentities checks that the identities are destroyed with the object
// although its keys are retained, and that the deletion does not wait for that.
func TestDeletionDropsDrillIdentities(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]error{"destroyed": nil, "Vault is away": &vaultadmin.Error{Problem: vaultadmin.Unreachable}} {
		t.Run(name, func(t *testing.T) {
			vault := &countingVault{refused: refusal}
			r := applyingReconciler(t, &fakeVault{})
			r.Vault = func(string) (Vault, bool) { return vault, true }
			s := healthy(drilling)
			s.sn.Finalizers = []string{v1alpha1.Finalizer}
			if err := r.Client.Create(t.Context(), s.sn); err != nil {
				t.Fatal(err)
			}
			s.sn.Status.Backup.Drill.NextIdentity = &v1alpha1.DrillIdentity{Entry: "drill-bbbbbbbbbbbbbbbb"}
			if done, err := r.finalize(t.Context(), s); !done || err != nil {
				t.Errorf("done %t, %v", done, err)
			}
			if refusal == nil && vault.destroyed != 2 || refusal != nil && vault.destroyed != 1 {
				t.Errorf("%d identities were destroyed", vault.destroyed)
			}
		})
	}
}

// TestDrillClockThatWasAhead: times that were recorded while the operator's clock was a year ahead
// prevent neither that a failed drill is made again, nor that the next backup is tested, nor that a
// drill is overdue.
func TestDrillClockThatWasAhead(t *testing.T) {
	t.Parallel()
	ahead := metav1.NewTime(now.Add(365 * 24 * time.Hour))
	idle := func(s *scope) {
		status := s.sn.Status.Backup.Drill
		status.StartTime, status.LastScheduleTime = nil, &metav1.Time{Time: now}
	}
	for name, tc := range map[string]struct {
		change func(*v1alpha1.DrillStatus)
		// after is when the pass comes, and started says that it starts a drill.
		after   time.Duration
		started bool
		reason  string
	}{
		"a failed drill":        {change: func(d *v1alpha1.DrillStatus) { d.Result, d.LastTime = v1alpha1.DrillFailed, &ahead }, after: drillRetry, started: true},
		"an identity":           {change: func(d *v1alpha1.DrillStatus) { d.Identities[0].Since = ahead }, after: 7 * 24 * time.Hour, started: true},
		"a scheduled drill":     {change: func(d *v1alpha1.DrillStatus) { d.LastScheduleTime = &ahead }, after: 7 * 24 * time.Hour, started: true},
		"one that has passed":   {change: func(d *v1alpha1.DrillStatus) { d.LastPassedTime, d.Identities[0].Since = &ahead, ahead }, after: 16 * 24 * time.Hour, reason: v1alpha1.ReasonDrillOverdue},
		"when it was scheduled": {change: func(d *v1alpha1.DrillStatus) { d.ObservedSchedule.Since = ahead }, after: 7 * 24 * time.Hour, started: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := healthy(drilling, idle)
			tc.change(s.sn.Status.Backup.Drill)
			s.original = s.sn.DeepCopy()
			r := applyingReconciler(t, &fakeVault{})
			drillPass(t, r, s)
			s.now = s.now.Add(tc.after)
			if tc.reason == "" {
				s.sn.Status.Backup.Last.SnapshotTime = new(metav1.NewTime(now.Add(time.Hour)))
			}
			status := drillPass(t, r, s)
			if (status.StartTime != nil) != tc.started {
				t.Errorf("the status is %+v, and a drill starts: %t", status, status.StartTime != nil)
			}
			if tc.reason != "" && s.backupFinding.reason != tc.reason {
				t.Errorf("BackupHealthy is %+v, want %s", s.backupFinding, tc.reason)
			}
		})
	}
}
