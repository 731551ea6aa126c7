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
	"github.com/securenotes/securenotes/controllers/internal/jitter"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// volumeState is what became of the embedded database's volume.
type volumeState int

const (
	// volumeWell: it is there, may be made, or is not needed.
	volumeWell volumeState = iota
	// volumeGone: nothing of its name exists.
	volumeGone
	// volumeGoing: its name is still taken by what is being deleted, or has nothing behind it.
	volumeGoing
)

// knownDatabase is the later of what the marker and the status say: Vault may have been restored to
// a state from before, and a status may be lost. An acceptance that the status does not have counts
// only with its annotation: anyone who has the operator's Vault token can write to the marker.
func (s *scope) knownDatabase() vaultadmin.DatabaseState {
	status := vaultadmin.DatabaseState{}
	inUse := s.databaseShown()
	if recorded := s.sn.Status.Database; recorded != nil {
		status = vaultadmin.DatabaseState{Claimed: recorded.InUse, Accepted: int(recorded.AcceptedEmpty)}
		inUse = status.Claimed
	}
	known := s.database.Later(status)
	if known.Accepted > status.Accepted && s.annotated() != acceptanceAfter(s.env.DeploymentID, status.Accepted) {
		known.Claimed = known.Claimed || inUse
	}
	return known
}

// databaseShown reports whether the conditions have shown a database, or its loss.
func (s *scope) databaseShown() bool {
	shown := meta.FindStatusCondition(s.original.Status.Conditions, v1alpha1.ConditionDatabaseReady)
	return shown != nil && (shown.Status == metav1.ConditionTrue || shown.Reason == v1alpha1.ReasonDatabaseLost)
}

// annotated is the value of the annotation that accepts an empty database.
func (s *scope) annotated() string { return s.sn.Annotations[v1alpha1.AnnotationAcceptEmptyDatabase] }

// databaseStatus records what is known, if Vault could be asked.
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
// the status records anything, what the conditions have shown counts: Vault may have been away when
// the first pod was ready.
func (s *scope) claimed() bool {
	if known := s.knownDatabase(); known != (vaultadmin.DatabaseState{}) {
		return known.Claimed
	}
	return s.databaseShown()
}

// databaseClaimed reports whether pods are to find a database that has been in use. While Vault
// does not say, they are told what they were told before; where nothing says what that was, the
// safe thing.
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

// volumeIsThere reports whether the claim exists and is to stay, and pins desired to it, so that
// applying desired creates no other. It leaves in the scope what is wrong.
func (r *Reconciler) volumeIsThere(ctx context.Context, s *scope, desired *corev1.PersistentVolumeClaim) (bool, error) {
	existing, key := &corev1.PersistentVolumeClaim{}, client.ObjectKeyFromObject(desired)
	err := r.Client.Get(ctx, key, existing)
	if apierrors.IsNotFound(err) {
		err = r.Live.Get(ctx, key, existing)
	}
	switch {
	case apierrors.IsNotFound(err) && s.database == nil:
		s.wake(jitter.Longer(retryInterval))
		return false, nil // whether it was ever there is for Vault to say
	case apierrors.IsNotFound(err):
		s.lose(volumeGone, fmt.Sprintf("PersistentVolumeClaim %s, which has the notes of deployment %s, is missing: restore it from a backup, under this name and with the annotation %s=%s",
			key.Name, s.env.DeploymentID, operand.AnnotationDeploymentID, s.env.DeploymentID))
		return false, nil
	case err != nil:
		return false, err
	case existing.DeletionTimestamp != nil:
		s.lose(volumeGoing, fmt.Sprintf("PersistentVolumeClaim %s is being deleted, and goes when no pod uses it: set persistentVolumeReclaimPolicy of PersistentVolume %s to Retain now, and export or copy the notes before the pod ends. "+
			"When it is gone, restore it under this name and with the annotation %s=%s", key.Name, existing.Spec.VolumeName, operand.AnnotationDeploymentID, s.env.DeploymentID))
		return false, nil
	case existing.Status.Phase == corev1.ClaimLost:
		s.lose(volumeGoing, fmt.Sprintf("PersistentVolumeClaim %s has lost its PersistentVolume %s: restore that, or delete the claim and restore it from a backup, under this name and with the annotation %s=%s",
			key.Name, existing.Spec.VolumeName, operand.AnnotationDeploymentID, s.env.DeploymentID))
		return false, nil
	}
	desired.UID = existing.UID
	return true, nil
}

// lose says that the volume is lost. A claim that is put back need not have the labels that are
// watched.
func (s *scope) lose(state volumeState, message string) {
	s.volume, s.databaseFinding = state, bad(v1alpha1.ReasonDatabaseLost, message)
	s.wake(jitter.Longer(retryInterval))
}

// database keeps in Vault that there is a database, from the first ready pod on. From then on a
// database that is lost stays so, until it is restored or somebody accepts an empty one in its
// place.
func (r *Reconciler) database(ctx context.Context, s *scope) error {
	lost := s.databaseFinding.reason == v1alpha1.ReasonDatabaseLost
	if s.database == nil || s.original.Status.DeploymentID == "" {
		return nil // what the marker says here, the status must say already
	}
	full := s.knownDatabase().Accepted >= config.MaxEmptyDatabases
	accepted := !full && s.annotated() == acceptance(s)
	next, event := s.knownDatabase(), [2]string{}
	switch {
	case lost && !s.claimed():
		// What a pod has said before the loss was accepted.
		s.databaseFinding = unknown(v1alpha1.ReasonProgressing, "an empty database takes the place of the lost one when a pod starts: "+
			"within five minutes, or at once after `kubectl rollout restart deployment "+s.sn.Name+"`, which pods need that have served before ("+databaseName(s.sn)+")")
	case lost && accepted && s.volume != volumeGoing:
		next.Claimed, next.Accepted = false, next.Accepted+1
		event = [2]string{"EmptyDatabaseAccepted", "an empty database takes the place of the lost one, as the annotation " + v1alpha1.AnnotationAcceptEmptyDatabase + " asks"}
	case lost && full:
		s.databaseFinding.message += ". Nothing is made in its place, nor can it be accepted as lost: somebody has raised the count of accepted empty databases to its bound, " +
			"so have the Vault administrator restore an earlier version of the marker, then delete this SecureNotes with deletionPolicy Retain and create it again with spec.adoptRetainedKey"
	case lost:
		s.databaseFinding.message += fmt.Sprintf(". Nothing is made in its place. To give up every account and note and begin with an empty database, annotate this SecureNotes with %s=%s",
			v1alpha1.AnnotationAcceptEmptyDatabase, acceptance(s))
	case s.databaseOpened || s.databaseFinding.status == metav1.ConditionTrue:
		next.Claimed = true
		if accepted {
			// Left there, it would let a later loss pass without a word.
			next.Accepted++
			event = [2]string{"AcceptanceUsedUp", "the annotation " + v1alpha1.AnnotationAcceptEmptyDatabase + " had nothing to accept, because the database is there; it holds for no later loss"}
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
	if event[0] != "" {
		r.Recorder.Eventf(s.sn, nil, corev1.EventTypeWarning, event[0], "Reconcile", "%s", event[1])
	}
	s.database = &next
	// The other phases go on from here with the next pass.
	s.wake(0)
	return r.configuration(ctx, s)
}

// acceptance is the value of the annotation that accepts an empty database next.
func acceptance(s *scope) string {
	return acceptanceAfter(s.env.DeploymentID, s.knownDatabase().Accepted)
}

// acceptanceAfter is that value once so many were accepted: each holds for one loss.
func acceptanceAfter(deploymentID string, accepted int) string {
	if accepted == 0 {
		return deploymentID
	}
	return fmt.Sprintf("%s/%d", deploymentID, accepted+1)
}
