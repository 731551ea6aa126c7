package securenotes

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// waiting returns a change of a backup: it waits for a reason.
func waiting(reason, message string) func(*v1alpha1.NotesBackup) {
	return func(nb *v1alpha1.NotesBackup) {
		meta.SetStatusCondition(&nb.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionReconciling, Status: metav1.ConditionTrue, Reason: reason, Message: message})
	}
}

// failedFor returns a change of a backup: it has failed for a reason.
func failedFor(reason, message string, at time.Time) func(*v1alpha1.NotesBackup) {
	return func(nb *v1alpha1.NotesBackup) {
		ended(v1alpha1.ConditionFailed, at)(nb)
		c := meta.FindStatusCondition(nb.Status.Conditions, v1alpha1.ConditionFailed)
		c.Reason, c.Message = reason, message
	}
}

func undeleted(nb *v1alpha1.NotesBackup) {
	nb.Status.Destination = &v1alpha1.BackupDestinationStatus{DeletionError: "access denied", DeletionRefused: true}
}

// TestBackupHealthy checks the condition for each state of the backups.
func TestBackupHealthy(t *testing.T) {
	t.Parallel()
	hours := func(n int) time.Time { return now.Add(-time.Duration(n) * time.Hour) }
	complete := ended(v1alpha1.ConditionComplete, hours(2))
	denied := &vaultadmin.Error{Problem: vaultadmin.Denied}
	for name, tc := range map[string]struct {
		backups []v1alpha1.NotesBackup
		change  func(*scope)
		status  metav1.ConditionStatus
		reason  string
		// message is a part of the message.
		message string
	}{
		"none":          {status: metav1.ConditionUnknown, reason: v1alpha1.ReasonUnknown, message: "no backup has ended yet"},
		"the first one": {backups: []v1alpha1.NotesBackup{*backup("a")}, status: metav1.ConditionUnknown, reason: v1alpha1.ReasonBackingUp, message: "NotesBackup a is being made"},
		"a deleted one": {backups: []v1alpha1.NotesBackup{*backup("a", deleting)}, status: metav1.ConditionUnknown, reason: v1alpha1.ReasonUnknown},
		"a queued one":  {backups: []v1alpha1.NotesBackup{*backup("a", waiting(v1alpha1.ReasonQueued, "it waits for b"))}, status: metav1.ConditionUnknown, reason: v1alpha1.ReasonBackingUp, message: "NotesBackup a waits: it waits for b"},
		"a blocked one": {backups: []v1alpha1.NotesBackup{*backup("a", waiting("SecretNotFound", "create the Secret"))}, status: metav1.ConditionFalse, reason: "SecretNotFound", message: "NotesBackup a is blocked: create the Secret"},
		"complete":      {backups: []v1alpha1.NotesBackup{*backup("a", complete)}, status: metav1.ConditionTrue, reason: v1alpha1.ReasonBackupComplete, message: "NotesBackup a, complete at 2027-01-15T06:00:00Z"},
		"and another":   {backups: []v1alpha1.NotesBackup{*backup("a", complete), *backup("b")}, status: metav1.ConditionTrue, reason: v1alpha1.ReasonBackingUp, message: "b"},
		"on a schedule": {change: dailyBackups, backups: []v1alpha1.NotesBackup{*backup("a", complete)}, status: metav1.ConditionTrue, reason: v1alpha1.ReasonBackingUp},
		"and later":     {change: func(s *scope) { dailyBackups(s); s.sn.Status.Backup.LastScheduleTime = &metav1.Time{Time: now} }, backups: []v1alpha1.NotesBackup{*backup("a", complete)}, status: metav1.ConditionTrue, reason: v1alpha1.ReasonBackupComplete, message: "the next one is scheduled for 2027-01-16T00:00:00Z"},
		"failed":        {backups: []v1alpha1.NotesBackup{*backup("a", complete), *backup("b", failedFor("DestinationDenied", "denied", hours(1)))}, status: metav1.ConditionFalse, reason: "DestinationDenied", message: "NotesBackup b has failed: denied"},
		"tried again":   {backups: []v1alpha1.NotesBackup{*backup("b", failedFor("DestinationDenied", "denied", hours(1))), *backup("c")}, status: metav1.ConditionFalse, reason: "DestinationDenied", message: "denied; NotesBackup c is being made"},
		"failed before": {backups: []v1alpha1.NotesBackup{*backup("a", complete), *backup("b", failedFor("DestinationDenied", "denied", hours(3)))}, status: metav1.ConditionTrue, reason: v1alpha1.ReasonBackupComplete},
		"failed before one that is deleted": {change: func(s *scope) {
			s.sn.Status.Backup.Last = &v1alpha1.LastBackup{Name: "a", CompletionTime: new(metav1.NewTime(hours(2)))}
		}, backups: []v1alpha1.NotesBackup{*backup("b", failedFor("DestinationDenied", "denied", hours(3)))}, status: metav1.ConditionTrue, reason: v1alpha1.ReasonBackupComplete},
		"never started":  {backups: []v1alpha1.NotesBackup{*backup("b", failedFor(v1alpha1.ReasonBackupNotConfigured, "x", hours(1)), func(nb *v1alpha1.NotesBackup) { nb.Status.SecureNotesUID = "" })}, status: metav1.ConditionUnknown, reason: v1alpha1.ReasonUnknown},
		"not deleted":    {change: func(s *scope) { s.sn.Spec.Backup.Keep = &v1alpha1.BackupKeep{Count: new(int32(9))} }, backups: []v1alpha1.NotesBackup{*backup("a", complete, undeleted)}, status: metav1.ConditionFalse, reason: v1alpha1.ReasonDeletionRefused, message: "access denied"},
		"not reached":    {change: func(s *scope) { s.sn.Spec.Backup.Keep = &v1alpha1.BackupKeep{Count: new(int32(9))} }, backups: []v1alpha1.NotesBackup{*backup("a", complete, undeleted, func(nb *v1alpha1.NotesBackup) { nb.Status.Destination.DeletionRefused = false })}, status: metav1.ConditionTrue, reason: v1alpha1.ReasonBackupComplete},
		"need not be":    {backups: []v1alpha1.NotesBackup{*backup("a", complete, undeleted)}, status: metav1.ConditionTrue, reason: v1alpha1.ReasonBackupComplete},
		"without rights": {change: func(s *scope) { s.backupKeyProblem = vaultadmin.NeededBy("a feature", denied) }, backups: []v1alpha1.NotesBackup{*backup("a", complete)}, status: metav1.ConditionFalse, reason: v1alpha1.ReasonSetupMissing, message: "must run `operator vault-setup`"},
		"without a key":  {change: func(s *scope) { s.backupKeyProblem = &vaultadmin.Error{Problem: vaultadmin.Missing} }, backups: []v1alpha1.NotesBackup{*backup("a", complete)}, status: metav1.ConditionFalse, reason: v1alpha1.ReasonKeyMissing, message: v1alpha1.ConditionBackupKeyUnusable},
		"Vault is away":  {change: func(s *scope) { s.key = nil }, backups: []v1alpha1.NotesBackup{*backup("a", complete)}, status: metav1.ConditionTrue, reason: v1alpha1.ReasonBackupComplete},
		"never set up":   {change: func(s *scope) { s.key, s.sn.Status.BackupKeys = nil, nil }, backups: []v1alpha1.NotesBackup{*backup("a", complete)}, status: metav1.ConditionUnknown, reason: v1alpha1.ReasonUnknown},
		"no such time":   {change: func(s *scope) { s.sn.Spec.Backup.Schedule = "0 0 30 2 *" }, backups: []v1alpha1.NotesBackup{*backup("a", complete)}, status: metav1.ConditionFalse, reason: v1alpha1.ReasonInvalidSchedule, message: "spec.backup.schedule"},
		"no such zone":   {change: func(s *scope) { s.sn.Spec.Backup.Schedule, s.sn.Spec.Backup.TimeZone = "@daily", "Moon/Base" }, status: metav1.ConditionFalse, reason: v1alpha1.ReasonInvalidSchedule, message: "spec.backup.timeZone"},
	} {
		t.Run(name, func(t *testing.T) {
			s := withBackups(func(s *scope) { s.setupCommand = "operator vault-setup" })
			if tc.change != nil {
				tc.change(s)
			}
			var objects []client.Object
			for i := range tc.backups {
				objects = append(objects, &tc.backups[i])
			}
			r := reconciler(t, &fakeVault{}, objects...)
			manage(t, r, s)
			status := computeStatus(s)
			c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionBackupHealthy)
			if c == nil || c.Status != tc.status || c.Reason != tc.reason || !strings.Contains(c.Message, tc.message) {
				t.Errorf("got %+v, want %s %s with %q", c, tc.status, tc.reason, tc.message)
			}
			if ready := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionVaultReady); ready.Status != metav1.ConditionTrue {
				t.Errorf("VaultReady: %+v", ready)
			}
			if meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionStalled) != nil {
				t.Error("the object is Stalled because of its backups")
			}
			s.sn.Status, s.sn.Spec.Backup = status, nil
			manage(t, r, s)
			if status := computeStatus(s); status.Backup != nil || meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionBackupHealthy) != nil {
				t.Errorf("without spec.backup: %+v, %+v", status.Backup, status.Conditions)
			}
		})
	}
}

// TestBackupOverdue: a backup is overdue two scheduled times after the last one completed, but not
// within 26 hours of it, nor within 26 hours after one was created. The reconciler asks for a pass
// at that time.
func TestBackupOverdue(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	at := func(hours int) time.Time { return since.Add(time.Duration(hours) * time.Hour) }
	for name, tc := range map[string]struct {
		schedule, zone string
		// last is when a backup completed, and open when one was created, in hours after since.
		last, open int
		change     func(*scope)
		// due is when one is overdue, in hours after since; 0 means never.
		due int
	}{
		"daily, none yet":      {schedule: "@daily", due: 36},
		"in a time zone":       {schedule: "@daily", zone: "Africa/Cairo", due: 34},
		"daily":                {schedule: "@daily", last: 13, due: 60},
		"just before its time": {schedule: "@daily", last: 11, due: 37},
		"hourly":               {schedule: "@hourly", last: 1, due: 27},
		"weekly":               {schedule: "0 12 * * 4", last: 1, due: 2 * 168},
		"one is being made":    {schedule: "@daily", last: 13, open: 50, due: 76},
		"for long":             {schedule: "@daily", last: 13, open: 15, due: 60},
		"suspended":            {schedule: "@daily", change: func(s *scope) { s.sn.Spec.Backup.Suspend = new(true) }},
		"all of it":            {schedule: "@daily", change: func(s *scope) { s.suspended = true }},
		"no schedule":          {},
	} {
		t.Run(name, func(t *testing.T) {
			s := withBackups(func(s *scope) {
				s.sn.Spec.Backup.Schedule, s.sn.Spec.Backup.TimeZone = tc.schedule, tc.zone
				s.sn.Status.Backup.ObservedSchedule = &v1alpha1.ObservedSchedule{Schedule: tc.schedule, Since: metav1.NewTime(since)}
				if tc.last > 0 {
					s.sn.Status.Backup.Last = &v1alpha1.LastBackup{Name: "last", CompletionTime: new(metav1.NewTime(at(tc.last)))}
				}
				if tc.open > 0 {
					s.backupList = []v1alpha1.NotesBackup{*backup("open", func(nb *v1alpha1.NotesBackup) { nb.CreationTimestamp = metav1.NewTime(at(tc.open)) })}
				}
			})
			if tc.change != nil {
				tc.change(s)
			}
			if s.now = at(10_000); tc.due == 0 {
				if f := backupHealth(s); f.reason == v1alpha1.ReasonBackupOverdue {
					t.Errorf("got %+v", f)
				}
				return
			}
			s.now = at(tc.due).Add(-time.Minute)
			if f := backupHealth(s); f.reason == v1alpha1.ReasonBackupOverdue || s.requeue.after != time.Minute {
				t.Errorf("a minute before: %+v, requeued after %s", f, s.requeue.after)
			}
			s.now = at(tc.due)
			if f := backupHealth(s); f.status != metav1.ConditionFalse || f.reason != v1alpha1.ReasonBackupOverdue {
				t.Errorf("at the time: %+v", f)
			}
		})
	}
}

// TestSuspendedObservesBackups: a suspended object shows its backups, creates and deletes none, and
// none is overdue.
func TestSuspendedObservesBackups(t *testing.T) {
	t.Parallel()
	old := now.Add(-100 * time.Hour)
	for name, tc := range map[string]struct {
		backups []v1alpha1.NotesBackup
		reason  string
	}{
		"complete": {backups: []v1alpha1.NotesBackup{*backup("a", ended(v1alpha1.ConditionComplete, old)), *backup("b", ended(v1alpha1.ConditionComplete, old.Add(-1)), createdBy(v1alpha1.BackupBySchedule))}, reason: v1alpha1.ReasonBackupComplete},
		"failed":   {backups: []v1alpha1.NotesBackup{*backup("a", failedFor("DestinationDenied", "denied", old))}, reason: "DestinationDenied"},
		"none":     {reason: v1alpha1.ReasonUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			r := reconciler(t, &fakeVault{})
			for _, nb := range tc.backups {
				if err := r.Client.Create(t.Context(), &nb); err != nil {
					t.Fatal(err)
				}
			}
			sn := withBackups(dailyBackups, func(s *scope) { s.sn.Spec.Backup.Keep = &v1alpha1.BackupKeep{Count: new(int32(1))} }).sn
			for range 2 {
				s := newScope(sn, operand.Environment{}, now)
				s.suspended, s.deployment = true, &appsv1.Deployment{}
				if err := r.observe(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				sn.Status = computeStatus(s)
				c := meta.FindStatusCondition(sn.Status.Conditions, v1alpha1.ConditionBackupHealthy)
				if c == nil || c.Reason != tc.reason || strings.Contains(c.Message, "scheduled") {
					t.Errorf("got %+v, want %s", c, tc.reason)
				}
				if names := backupNames(t, r); len(names) != len(tc.backups) {
					t.Errorf("%v are left", names)
				}
			}
			sn.Spec.Backup = nil
			s := newScope(sn, operand.Environment{}, now)
			s.suspended = true
			if status := computeStatus(s); status.Backup != nil || meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionBackupHealthy) != nil {
				t.Errorf("without spec.backup: %+v, %+v", status.Backup, status.Conditions)
			}
		})
	}
}
