package securenotes

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// lossState is what becomes of a database that is lost.
type lossState int

const (
	// lossNone: no database is lost, or Vault could not be asked.
	lossNone lossState = iota
	// lossEmptyPending: the loss was accepted before, and the next pod starts with an empty
	// database.
	lossEmptyPending
	// lossAccepted: the annotation accepts the loss in this pass.
	lossAccepted
	// lossLimitReached: no further loss can be accepted.
	lossLimitReached
	// lossUndecided: the database must be restored, or its loss accepted.
	lossUndecided
)

// knownDatabase returns the later of what the marker in Vault and the status record: Vault may have
// been restored from a backup, and a status may be lost. An acceptance that only the marker records
// counts only with its annotation, because the operator's Vault token suffices to write the marker.
func (s *scope) knownDatabase() vaultadmin.DatabaseState {
	status := vaultadmin.DatabaseState{}
	inUse := s.databaseShown()
	if recorded := s.sn.Status.Database; recorded != nil {
		status = vaultadmin.DatabaseState{Claimed: recorded.InUse, Accepted: int(recorded.AcceptedEmpty)}
		inUse = status.Claimed
	}
	known := s.database.Later(status)
	if known.Accepted > status.Accepted && s.annotatedAcceptance() != acceptanceAfter(s.env.DeploymentID, status.Accepted) {
		known.Claimed = known.Claimed || inUse
	}
	return known
}

// databaseShown reports whether the conditions have shown a database, or its loss.
func (s *scope) databaseShown() bool {
	shown := meta.FindStatusCondition(s.original.Status.Conditions, v1alpha1.ConditionDatabaseReady)
	return shown != nil && (shown.Status == metav1.ConditionTrue || shown.Reason == v1alpha1.ReasonDatabaseLost)
}

// annotatedAcceptance returns the value of the annotation that accepts an empty database.
func (s *scope) annotatedAcceptance() string {
	return s.sn.Annotations[v1alpha1.AnnotationAcceptEmptyDatabase]
}

// databaseStatus returns what is known of the database, if Vault could be asked.
func databaseStatus(s *scope) *v1alpha1.DatabaseStatus {
	if s.database == nil {
		return s.sn.Status.Database
	}
	known := s.knownDatabase()
	if known == (vaultadmin.DatabaseState{}) {
		return nil
	}
	return &v1alpha1.DatabaseStatus{InUse: known.Claimed, AcceptedEmpty: int64(known.Accepted)}
}

// claimed reports whether there is a database that has been in use. Where neither the marker nor
// the status records one, the conditions count: Vault may have been unreachable when the first pod
// became ready.
func (s *scope) claimed() bool {
	if known := s.knownDatabase(); known != (vaultadmin.DatabaseState{}) {
		return known.Claimed
	}
	return s.databaseShown()
}

// databaseClaimed reports whether pods must find a database that has been in use. If Vault cannot
// be asked, the current ConfigMap decides; without one, the answer is yes, which is safe.
func (r *Reconciler) databaseClaimed(ctx context.Context, s *scope) (bool, error) {
	if s.database != nil {
		return s.claimed(), nil
	}
	existing := &corev1.ConfigMap{}
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: s.sn.Namespace, Name: operand.ConfigMapName(s.sn.Name)}, existing)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	return operand.DatabaseClaimed(existing), err
}

// database records in Vault that a database is in use, from the first ready pod on. A database
// that is lost after that must be restored, or a person must accept an empty one.
func (r *Reconciler) database(ctx context.Context, s *scope) error {
	if s.database == nil || s.original.Status.DeploymentID == "" {
		return nil // the status must record first what the marker records
	}
	s.loss = s.judgeLoss()
	next, usedUp := s.knownDatabase(), false
	switch {
	case s.loss == lossAccepted:
		next.Claimed, next.Accepted = false, next.Accepted+1
	case s.loss == lossNone && (s.databaseOpened() || s.foundDatabase().status == metav1.ConditionTrue):
		next.Claimed = true
		if usedUp = s.acceptsEmpty(); usedUp {
			next.Accepted++ // else the annotation would accept a later loss
		}
	}
	if next == *s.database {
		return nil
	}
	vault, err := r.connect(s)
	if err == nil {
		err = vault.RecordDatabase(ctx, r.deploymentOf(s), *s.database, next)
	}
	r.vaultChecks.drop(s.sn.UID)
	if err != nil {
		return r.vaultTrouble(ctx, s, err)
	}
	switch {
	case s.loss == lossAccepted:
		r.Recorder.Eventf(s.sn, nil, corev1.EventTypeWarning, "EmptyDatabaseAccepted", "Reconcile", "%s",
			"an empty database replaces the lost one, because the annotation "+v1alpha1.AnnotationAcceptEmptyDatabase+" accepts the loss")
	case usedUp:
		r.Recorder.Eventf(s.sn, nil, corev1.EventTypeWarning, "AcceptanceUsedUp", "Reconcile", "%s",
			"no database is lost, so the annotation "+v1alpha1.AnnotationAcceptEmptyDatabase+" was used up without effect; it accepts no later loss")
	}
	s.database = &next
	s.requeueAfter(0, "the record of the database has changed")
	return r.configuration(ctx, s)
}

// judgeLoss returns what becomes of the database if it is lost.
func (s *scope) judgeLoss() lossState {
	switch {
	case s.foundDatabase().reason != v1alpha1.ReasonDatabaseLost:
		return lossNone
	case !s.claimed():
		return lossEmptyPending // a pod reported the loss before it was accepted
	case s.acceptsEmpty() && s.volume != volumeTerminating:
		return lossAccepted
	case s.acceptanceLimitReached():
		return lossLimitReached
	default:
		return lossUndecided
	}
}

func (s *scope) acceptanceLimitReached() bool {
	return s.knownDatabase().Accepted >= config.MaxEmptyDatabases
}

// acceptsEmpty reports whether the annotation accepts an empty database.
func (s *scope) acceptsEmpty() bool {
	return !s.acceptanceLimitReached() && s.annotatedAcceptance() == acceptance(s)
}

// acceptance returns the value with which the annotation accepts the next empty database.
func acceptance(s *scope) string {
	return acceptanceAfter(s.env.DeploymentID, s.knownDatabase().Accepted)
}

// acceptanceAfter returns that value after accepted earlier ones. Each value accepts one loss.
func acceptanceAfter(deploymentID string, accepted int) string {
	if accepted == 0 {
		return deploymentID
	}
	return fmt.Sprintf("%s/%d", deploymentID, accepted+1)
}
