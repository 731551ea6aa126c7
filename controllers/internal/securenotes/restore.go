package securenotes

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/apply"
	"github.com/securenotes/securenotes/controllers/internal/restores"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
)

// +kubebuilder:rbac:groups=securenotes.dev,resources=notesrestores,verbs=get;list;watch

// phasesOf returns the phases of a pass. While a NotesRestore has the object stand still, they are
// other ones: the Deployment has 0 replicas, and nothing is rotated, retired, trimmed or backed up,
// nor recorded about the database.
func (r *Reconciler) phasesOf(ctx context.Context, s *scope) ([]phase, error) {
	restore, err := restores.Holding(ctx, r.Client, s.sn.Namespace, s.sn.Name)
	if err != nil {
		return nil, err
	}
	if restore == nil || restore.Status.SecureNotesUID != string(s.sn.UID) {
		return r.phases(), nil
	}
	s.restore = restore
	phases := []phase{{"identities", r.identities}, {"service", r.service}, {"certificate", r.certificate}, {"restore", r.standStill}}
	if !restores.Loaded(restore) {
		// Once the database is restored, package notesrestore records what it has in the marker in
		// Vault, in the status and on the volume, one after the other.
		phases = append([]phase{{"vault", r.vault}, {"volume", r.volume}}, phases...)
	}
	return phases, nil
}

// standStill scales the Deployment to 0, and stops verification Jobs. It leaves everything else of
// the Deployment as it is. The number in spec.replicas of the object, which an autoscaler may
// write, has no effect meanwhile.
func (r *Reconciler) standStill(ctx context.Context, s *scope) error {
	if err := r.deleteVerifications(ctx, s, ""); err != nil {
		return err
	}
	// The cache has no specs of Deployments.
	d := &appsv1.Deployment{}
	err := r.Live.Get(ctx, client.ObjectKeyFromObject(s.sn), d)
	if apierrors.IsNotFound(err) || err == nil && !metav1.IsControlledBy(d, s.sn) {
		return nil
	}
	if err != nil {
		return err
	}
	s.deployment = d
	if ptr.Deref(d.Spec.Replicas, 1) == 0 {
		return nil
	}
	before := d.DeepCopy()
	d.Spec.Replicas = new(int32(0))
	err = r.Client.Patch(ctx, d, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}), client.FieldOwner(apply.FieldManager))
	if err == nil {
		log.FromContext(ctx).Info("scaled the Deployment to 0 for a restore", "notesRestore", s.restore.Name)
	}
	return client.IgnoreNotFound(err)
}

// mayStart returns an error if no pod of the API may start yet, although the cache has no restore
// for which the object stands still. Before the first pod starts, it reads past the cache: whether
// a restore is active, and whether the last one has brought another deployment.
func (r *Reconciler) mayStart(ctx context.Context, s *scope) error {
	d := &appsv1.Deployment{}
	err := r.Client.Get(ctx, client.ObjectKeyFromObject(s.sn), d)
	if client.IgnoreNotFound(err) != nil || err == nil && d.Status.Replicas > 0 {
		return client.IgnoreNotFound(err)
	}
	if err := r.notBesideRestore(ctx, s); err != nil {
		return err
	}
	current := &v1alpha1.SecureNotes{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(s.sn), current); err != nil {
		return client.IgnoreNotFound(err)
	}
	read := &s.original.Status
	if current.Status.DeploymentID != read.DeploymentID || !equality.Semantic.DeepEqual(current.Status.Pepper, read.Pepper) {
		return stalecache.New("SecureNotes", s.sn.Name, "its deployment has changed")
	}
	return nil
}

// notBesideRestore returns an error while a NotesRestore of the object is active, past the cache.
func (r *Reconciler) notBesideRestore(ctx context.Context, s *scope) error {
	active, err := restores.Active(ctx, r.Live, s.sn.Namespace, s.sn.Name)
	if err == nil && active != nil {
		err = stalecache.New("NotesRestore", active.Name, "it goes first")
	}
	return err
}

// duringRestore returns what a condition says while the object stands still for a restore.
func (s *scope) duringRestore(kind string, f finding) finding {
	if s.restore == nil {
		return f
	}
	message := fmt.Sprintf("NotesRestore %s restores backup %s: no pod of the API runs until it has ended", s.restore.Name, s.restore.Spec.ID)
	if c := meta.FindStatusCondition(s.restore.Status.Conditions, v1alpha1.ConditionReconciling); c != nil && c.Message != "" {
		message += "; it says: " + c.Message // such as which Secret is missing
	}
	switch {
	case kind == v1alpha1.ConditionDatabaseReady && !s.databaseFinding.known():
		return unknown(v1alpha1.ReasonRestoring, message)
	case kind == v1alpha1.ConditionWorkloadReady && !childTrouble(s).known():
		return bad(v1alpha1.ReasonRestoring, message)
	}
	return f
}
