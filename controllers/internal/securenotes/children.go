package securenotes

import (
	"context"
	"errors"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/apply"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/jitter"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// apply writes one child; existing is nil where only the metadata of its kind is cached. A refusal
// that only a person can put right is left in the scope.
func (r *Reconciler) apply(ctx context.Context, s *scope, desired, existing client.Object) error {
	return r.applyOwned(ctx, s, desired, existing, apply.ControlledBy(s.sn))
}

func (r *Reconciler) applyOwned(ctx context.Context, s *scope, desired, existing client.Object, owned apply.Owned) error {
	err := r.Apply.Apply(ctx, desired, existing, owned)
	if conflict, ok := errors.AsType[*apply.ConflictError](err); ok {
		s.conflict(conflict)
		// The other object is not watched.
		s.wake(jitter.Longer(retryInterval))
		return nil
	}
	return s.refused(err)
}

// refused leaves a refusal in the scope, and returns the error that the pass is to be repeated for.
func (s *scope) refused(err error) error {
	if c := cause.OfError(err); c.Known() {
		s.trouble(bad(c.Reason, c.String()))
		s.wake(jitter.Longer(retryInterval))
		return nil
	}
	if err != nil {
		s.trouble(unknown(v1alpha1.ReasonApplyFailed, cause.Words(err.Error())))
	}
	return err
}

func (s *scope) trouble(f finding) {
	s.refusals++
	if !s.childTrouble.known() {
		s.childTrouble = f
	}
}

// conflict adds one more object that is in the way: anyone who removes them sees them all at once.
func (s *scope) conflict(c *apply.ConflictError) {
	s.refusals++
	s.conflicts = append(s.conflicts, c)
	message := c.Error()
	if len(s.conflicts) > 1 {
		facts := make([]string, len(s.conflicts))
		for i, c := range s.conflicts {
			facts[i] = c.Fact()
		}
		message = strings.Join(facts, "; ") + ": rename or delete them, or give the SecureNotes another name"
	}
	s.childTrouble = bad(v1alpha1.ReasonNameConflict, message)
}

// identities are what the pods run as, and where rotation Jobs report.
func (r *Reconciler) identities(ctx context.Context, s *scope) error {
	var errs []error
	for _, account := range operand.ServiceAccounts(s.sn) {
		errs = append(errs, r.apply(ctx, s, account, nil))
	}
	errs = append(errs,
		r.apply(ctx, s, operand.ProgressConfigMap(s.sn), nil),
		r.apply(ctx, s, operand.RotationRole(s.sn), nil),
		r.apply(ctx, s, operand.RotationRoleBinding(s.sn), nil))
	return errors.Join(errs...)
}

// configuration of the service. It needs to know the Vault connection and what keys are bound to.
func (r *Reconciler) configuration(ctx context.Context, s *scope) error {
	if !s.connected || !s.keyed {
		return nil
	}
	claimed, err := r.databaseClaimed(ctx, s)
	if err != nil {
		return err
	}
	s.env.DatabaseClaimed = claimed
	desired, err := operand.ConfigMap(s.sn, s.env)
	if err != nil {
		s.trouble(bad(v1alpha1.ReasonApplyFailed, err.Error()))
		return nil
	}
	s.configHash = operand.ConfigHash(desired)
	return r.apply(ctx, s, desired, nil)
}

// volume of the embedded database. It belongs to the deployment id that it was made for, not to an
// owner reference, so that it can outlive the object.
func (r *Reconciler) volume(ctx context.Context, s *scope) error {
	if !s.keyed {
		return nil
	}
	desired := operand.VolumeClaim(s.sn, s.env.DeploymentID)
	if desired == nil {
		return nil
	}
	if s.database == nil || s.claimed() {
		if there, err := r.volumeIsThere(ctx, s, desired); err != nil || !there {
			return err
		}
	}
	existing := &corev1.PersistentVolumeClaim{}
	if err := client.IgnoreNotFound(r.Client.Get(ctx, client.ObjectKeyFromObject(desired), existing)); err != nil {
		return err
	}
	keepRequest(desired, existing)
	before := s.childTrouble
	err := r.applyOwned(ctx, s, desired, existing, func(existing client.Object) (bool, string) {
		id := existing.GetAnnotations()[operand.AnnotationDeploymentID]
		switch id {
		case s.env.DeploymentID:
			return true, ""
		case "":
			return false, "no SecureNotes (if it has this SecureNotes's notes, annotate it with " + operand.AnnotationDeploymentID + "=" + s.env.DeploymentID + ")"
		default:
			return false, "the notes of another SecureNotes (" + operand.AnnotationDeploymentID + " " + id + ")"
		}
	})
	if s.childTrouble != before && (s.childTrouble.reason == v1alpha1.ReasonApplyFailed || s.childTrouble.reason == v1alpha1.ReasonOutsideLimitRange) {
		s.childTrouble.message += sizeAdvice(desired, existing)
	}
	if err == nil && existing.Annotations[operand.AnnotationDeploymentID] == s.env.DeploymentID {
		s.volumeSize = new(sizeText(volumeSize(existing)))
	}
	if err == nil && existing.Status.Phase == corev1.ClaimPending {
		s.wake(jitter.Longer(retryInterval)) // events are not watched
		s.databaseFinding = claimFinding(existing, r.looks.Live(ctx, r.Live, r.Now, s.sn.UID), s.now)
	}
	return err
}

// claimFinding says why the embedded database has no volume; nothing while that takes its time.
func claimFinding(claim *corev1.PersistentVolumeClaim, look cause.Look, now time.Time) finding {
	if c := cause.OfClaim(claim, look, now); c.Known() {
		return bad(c.Reason, c.String())
	}
	return finding{}
}

// workload is the Deployment. It waits for the keys: a pod without them could only crash.
func (r *Reconciler) workload(ctx context.Context, s *scope) error {
	existing := &appsv1.Deployment{}
	if s.volume != volumeWell {
		// To replace its pods would end one that may still have the lost volume open.
		s.workloadFinding = bad(v1alpha1.ReasonDatabaseLost, "is left as it is while the volume of the database is lost: see the condition DatabaseReady")
		return r.asItIs(ctx, s, existing)
	}
	if s.configHash == "" {
		s.workloadFinding = bad(v1alpha1.ReasonWaitingForVault, "waits for the master key: see the condition VaultReady")
		return r.asItIs(ctx, s, existing)
	}
	if err := operand.CheckResources(s.sn); err != nil {
		s.trouble(bad(v1alpha1.ReasonInvalidResources, err.Error()))
		return r.asItIs(ctx, s, existing)
	}
	if operand.TLSSecretName(s.sn, s.env) == "" {
		return r.asItIs(ctx, s, existing) // the pods keep the Secret that they have mounted
	}
	before := s.refusals
	if err := r.apply(ctx, s, operand.Deployment(s.sn, s.env, s.configHash), existing); err != nil || !metav1.IsControlledBy(existing, s.sn) {
		return err
	}
	refused := s.refusals != before
	s.deployment, s.deployed = existing, !refused
	return nil
}

// asItIs reads the Deployment and leaves it alone.
func (r *Reconciler) asItIs(ctx context.Context, s *scope, existing *appsv1.Deployment) error {
	err := r.Client.Get(ctx, client.ObjectKeyFromObject(s.sn), existing)
	if err == nil && metav1.IsControlledBy(existing, s.sn) {
		s.deployment = existing
	}
	return client.IgnoreNotFound(err)
}

// disruptionBudget exists only while there is more than one replica.
func (r *Reconciler) disruptionBudget(ctx context.Context, s *scope) error {
	if desired := operand.DisruptionBudget(s.sn); desired != nil {
		return r.apply(ctx, s, desired, nil)
	}
	existing := &metav1.PartialObjectMetadata{}
	existing.SetGroupVersionKind(policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"))
	return r.remove(ctx, s, s.sn.Name, existing)
}

// remove deletes a child that is no longer wanted, if it is there and ours.
func (r *Reconciler) remove(ctx context.Context, s *scope, name string, existing client.Object) error {
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: s.sn.Namespace, Name: name}, existing)
	if err != nil || !metav1.IsControlledBy(existing, s.sn) || existing.GetDeletionTimestamp() != nil {
		return client.IgnoreNotFound(err)
	}
	return client.IgnoreNotFound(r.Client.Delete(ctx, existing, client.Preconditions{UID: new(existing.GetUID())}))
}
