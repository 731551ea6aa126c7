package securenotes

import (
	"cmp"
	"context"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config/truncate"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/schedule"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
)

const (
	// drillRetry is when a failed drill is made again, before the next scheduled one.
	drillRetry = 24 * time.Hour
	// maxDrillMessage bounds status.backup.drill.message, in bytes.
	maxDrillMessage = 1024
)

// manageDrill keeps an identity of the drill in Vault, and makes the drills that are due. While
// spec.backup is unset or drills are suspended, it destroys the identities.
func (r *Reconciler) manageDrill(ctx context.Context, s *scope) error {
	defer judgeDrill(s)
	if s.sn.Spec.Backup == nil {
		return r.endDrills(ctx, s)
	}
	if s.sn.Status.Backup == nil {
		return nil // another phase failed
	}
	if s.sn.Status.Backup.Drill == nil {
		s.sn.Status.Backup.Drill = &v1alpha1.DrillStatus{}
	}
	status, policy := s.sn.Status.Backup.Drill, drillPolicy(s.sn)
	boundDrillTimes(status, s.now)
	if err := s.createScheduled(drillCalendar(s, status, policy)); err != nil {
		return err
	}
	if policy.Suspend {
		return r.endDrills(ctx, s)
	}
	retryDrill(s, status)
	if !s.usesVault() {
		return nil
	}
	if err := r.renewIdentity(ctx, s, status); err != nil {
		return err
	}
	if err := r.destroyOldIdentities(ctx, s, status); err != nil {
		return err
	}
	if status.StartTime == nil {
		return nil
	}
	return r.runDrill(ctx, s, status)
}

// boundDrillTimes replaces the recorded times after now by now: the operator's clock was ahead
// then. Otherwise a failed drill would not be made again until that time, and no backup could be
// tested.
func boundDrillTimes(status *v1alpha1.DrillStatus, now time.Time) {
	times := []*metav1.Time{status.LastTime, status.LastPassedTime}
	for i := range status.Identities {
		times = append(times, &status.Identities[i].Since)
	}
	for _, at := range times {
		if at != nil && at.After(now) {
			*at = metav1.NewTime(now)
		}
	}
}

// usesVault reports whether Vault can be called for an object that has its keys.
func (s *scope) usesVault() bool { return s.connected && s.hasKeys && s.key != nil }

// drillPolicy returns the schedule of spec.backup.drill.
func drillPolicy(sn *v1alpha1.SecureNotes) schedule.Policy {
	text, suspend := operand.DrillSchedule(sn)
	return schedule.Policy{
		Field: "spec.backup.drill", Schedule: text,
		TimeZoneField: "spec.backup", TimeZone: cmp.Or(sn.Spec.Backup.TimeZone, operand.DefaultTimeZone), Suspend: suspend,
	}
}

// drillCalendar returns the schedule of the drills. One that is due waits for a backup that can be
// tested.
func drillCalendar(s *scope, status *v1alpha1.DrillStatus, policy schedule.Policy) calendar {
	return calendar{
		Policy: policy, what: "drill", observed: &status.ObservedSchedule, handled: &status.LastScheduleTime, next: &status.NextTime,
		firstSeen: s.firstSeen(), trouble: &s.drillFinding, running: status.StartTime != nil,
		create: func(time.Time) (bool, error) {
			if whyNoDrill(s, status) != "" {
				return false, nil
			}
			status.StartTime = new(metav1.NewTime(s.now))
			return true, nil
		},
	}
}

// retryDrill starts a failed drill again, a day after it has failed.
func retryDrill(s *scope, status *v1alpha1.DrillStatus) {
	if status.Result != v1alpha1.DrillFailed || status.StartTime != nil || status.LastTime == nil || whyNoDrill(s, status) != "" {
		return
	}
	at := status.LastTime.Add(drillRetry)
	if status.NextTime != nil && at.After(status.NextTime.Time) {
		return
	}
	if s.now.Before(at) {
		status.NextTime = new(metav1.NewTime(at))
		s.requeueAfter(at.Sub(s.now), "a failed drill is made again")
		return
	}
	status.StartTime, status.LastScheduleTime = new(metav1.NewTime(s.now)), new(metav1.NewTime(s.now))
}

// whyNoDrill returns why no backup can be tested, or nothing.
func whyNoDrill(s *scope, status *v1alpha1.DrillStatus) string {
	last, identities := s.sn.Status.Backup.Last, status.Identities
	const next = ": create a NotesBackup"
	switch {
	case len(identities) == 0:
		return "the identity of the drill is not in Vault yet"
	case last == nil || last.SnapshotTime == nil || last.Location != operand.BackupLocation(s.sn.Spec.Backup.Destination):
		return "no backup in the destination of spec.backup is complete" + next
	case last.SnapshotTime.Before(&identities[len(identities)-1].Since):
		return "the newest backup is older than the identity of the drill" + next
	case last.SnapshotTime.Time.Before(backupKeySince(s.sn)):
		return "the newest backup is older than the version of the key that signs backups" + next
	}
	return ""
}

// backupKeySince returns when the newest version of the key that signs backups was created.
func backupKeySince(sn *v1alpha1.SecureNotes) (since time.Time) {
	if keys := sn.Status.BackupKeys; keys != nil {
		for _, version := range keys.Versions {
			since = version.Since.Time
		}
	}
	return since
}

// runDrill continues the drill that was started last.
func (r *Reconciler) runDrill(ctx context.Context, s *scope, status *v1alpha1.DrillStatus) error {
	job := ownJob{
		name: operand.DrillJobName(s.sn.Name, status.LastScheduleTime.Time), noun: "drill", jobUID: &status.JobUID, jobDigest: &status.JobDigest,
		failed: func(message string) { failDrill(s, status, "", message) }, blocked: s.blockDrill,
	}
	// Those of earlier drills stay until now, so that people can read their logs.
	if err := r.deleteJobs(ctx, s, operand.ComponentDrill, job.name); err != nil {
		return err
	}
	expected := r.drillJob(s, job)
	outcome, err := expected.Read(ctx, r.Client, r.Live, r.lookups.Live(ctx, r.Live, r.Now, s.sn.UID), s.now)
	if err != nil {
		return err
	}
	if outcome.Identity.Known() && status.JobUID == "" {
		job.record(outcome.Identity)
	}
	switch outcome.Phase {
	case trustedjob.Absent:
		if status.JobUID != "" {
			return r.clearJob(ctx, s, job, expected)
		}
		return r.createDrill(ctx, s, status, job, expected)
	case trustedjob.Complete:
		recordDrill(s, status, outcome)
	case trustedjob.Failed, trustedjob.Foreign:
		failDrill(s, status, outcome.Reason, outcome.Message)
	default:
		s.blockDrill(outcome.Cause)
		s.retry("a drill Job runs")
	}
	return nil
}

// drillJob returns the Job that is believed; see package trustedjob.
func (r *Reconciler) drillJob(s *scope, job ownJob) trustedjob.Expected {
	return trustedjob.Expected{
		Key: client.ObjectKey{Namespace: s.sn.Namespace, Name: job.name}, Owner: s.sn, Recorded: job.recorded(), Pods: 1, Reports: true,
		Build: func(ctx context.Context) (*batchv1.Job, error) {
			least, err := trustedjob.LeastCPU(ctx, r.Live, s.sn)
			if err != nil {
				return nil, err
			}
			return operand.DrillJob(s.sn, s.env, job.name, least), nil
		},
	}
}

// createDrill writes the configuration of the drill, which is no other drill's then, and creates
// the Job.
func (r *Reconciler) createDrill(ctx context.Context, s *scope, status *v1alpha1.DrillStatus, job ownJob, expected trustedjob.Expected) error {
	if why := whyNoDrill(s, status); why != "" {
		failDrill(s, status, "", why) // spec.backup has changed since the drill was started
		return nil
	}
	cm, err := operand.DrillConfigMap(s.sn, s.env)
	if err != nil {
		failDrill(s, status, "", err.Error())
		return nil
	}
	if accepted, err := r.apply(ctx, s, cm, nil); err != nil || !accepted {
		return err
	}
	return r.createJob(ctx, s, job, expected)
}

// recordDrill records what a complete Job reported.
func recordDrill(s *scope, status *v1alpha1.DrillStatus, outcome trustedjob.Outcome) {
	var entries []string
	for _, identity := range status.Identities {
		entries = append(entries, identity.Entry)
	}
	report, message, err := cause.ReadDrillReport(outcome.Report, entries)
	if err != nil {
		failDrill(s, status, "", "Job "+outcome.Name+" is complete, but "+err.Error()+": see the log of its pod")
		return
	}
	endDrill(s, status, v1alpha1.DrillResult(report.Result), "", message)
	status.LastPassedTime = status.LastTime
	status.LastID, status.LastEntry = report.ID, report.Entry
	status.Accounts, status.Notes, status.OwnerKeys, status.Values = report.Accounts, report.Notes, report.OwnerKeys, report.Values
	s.event(corev1.EventTypeNormal, "DrillComplete", "Drill", status.Message)
}

func failDrill(s *scope, status *v1alpha1.DrillStatus, reason, message string) {
	endDrill(s, status, v1alpha1.DrillFailed, reason, message)
	s.warn(v1alpha1.ReasonDrillFailed, "Drill", status.Message)
}

// endDrill records how a drill ended.
func endDrill(s *scope, status *v1alpha1.DrillStatus, result v1alpha1.DrillResult, reason, message string) {
	status.Result, status.Reason, status.Message = result, reason, truncate.Bytes(message, maxDrillMessage)
	status.LastTime = new(metav1.NewTime(s.now))
	status.StartTime, status.JobUID, status.JobDigest = nil, "", ""
	status.LastID, status.Accounts, status.Notes, status.OwnerKeys, status.Values = "", 0, 0, 0, 0
	s.requeueAfter(time.Second, "a drill has ended")
}

// blockDrill records why a drill makes no progress.
func (s *scope) blockDrill(c cause.Cause) {
	if c.Known() {
		s.drillFinding = bad(c.Reason, "the drill of the newest backup is blocked: "+c.String())
	}
}

// endDrills stops the drill that runs, and destroys the identities, so that nobody can open backups
// with them.
func (r *Reconciler) endDrills(ctx context.Context, s *scope) error {
	status := operand.DrillStatus(s.sn)
	if status.StartTime == nil && status.NextIdentity == nil && len(status.Identities) == 0 {
		return nil
	}
	if err := r.deleteJobs(ctx, s, operand.ComponentDrill, ""); err != nil {
		return err
	}
	status.StartTime, status.JobUID, status.JobDigest = nil, "", ""
	if !s.usesVault() {
		return nil
	}
	if done, err := r.destroyNextIdentity(ctx, s, status); !done {
		return err
	}
	_, err := r.destroyIdentities(ctx, s, status, 0)
	return err
}

// judgeDrill makes a fault of the drill the state of the backups, unless these have one themselves.
func judgeDrill(s *scope) {
	if s.backupFinding.status == metav1.ConditionFalse || s.sn.Spec.Backup == nil || s.sn.Status.Backup == nil {
		return
	}
	if f := drillHealth(s); f.known() {
		s.backupFinding = f
	}
}

// drillHealth returns what is wrong with the drills. The zero finding means nothing.
func drillHealth(s *scope) finding {
	policy, status := drillPolicy(s.sn), operand.DrillStatus(s.sn)
	if s.drillFinding.known() || policy.Suspend || status.ObservedSchedule == nil {
		return s.drillFinding
	}
	next := ""
	if status.NextTime != nil && !s.suspended {
		next = "; the next drill is at " + instant(status.NextTime.Time)
	}
	if status.Result == v1alpha1.DrillFailed && status.LastTime != nil {
		return bad(cmp.Or(status.Reason, v1alpha1.ReasonDrillFailed), "the drill at "+instant(status.LastTime.Time)+" could not restore the newest backup: "+status.Message+next)
	}
	if s.sn.Status.Backup.Last == nil || s.suspended {
		return finding{}
	}
	since := status.ObservedSchedule.Since.Time
	if last := status.LastPassedTime; last != nil {
		since = latest(since, last.Time)
	}
	at := schedule.After(policy, 2, since)
	if at.IsZero() {
		return finding{}
	}
	if at = at.Add(24 * time.Hour); s.now.Before(at) {
		s.requeueAfter(at.Sub(s.now), "the time at which a drill is overdue")
		return finding{}
	}
	return bad(v1alpha1.ReasonDrillOverdue, "no drill has restored a backup since "+instant(since)+": "+
		cmp.Or(whyNoDrill(s, status), "see the Job "+operand.DrillJobName(s.sn.Name, lastDue(status))+", and status.backup.drill")+next)
}

func lastDue(status *v1alpha1.DrillStatus) time.Time {
	if status.LastScheduleTime == nil {
		return time.Time{}
	}
	return status.LastScheduleTime.Time
}
