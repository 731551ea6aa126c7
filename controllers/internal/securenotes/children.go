package securenotes

import (
	"context"
	"errors"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/apply"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// apply writes one child and reports whether the API server accepted it. existing is nil where only
// the metadata of its kind is cached. A refusal that needs a person is recorded in the scope.
func (r *Reconciler) apply(ctx context.Context, s *scope, desired, existing client.Object) (accepted bool, err error) {
	return r.applyOwned(ctx, s, desired, existing, apply.ControlledBy(s.sn))
}

func (r *Reconciler) applyOwned(ctx context.Context, s *scope, desired, existing client.Object, owned apply.Owned) (accepted bool, err error) {
	err = r.Apply.Apply(ctx, desired, existing, owned)
	if conflict, ok := errors.AsType[*apply.ConflictError](err); ok {
		// The database phase applies the configuration a second time.
		if !slices.ContainsFunc(s.conflicts, func(c *apply.ConflictError) bool { return *c == *conflict }) {
			s.conflicts = append(s.conflicts, conflict)
		}
		s.retry("the object that has the name of a child is not watched")
		return false, nil
	}
	return err == nil, s.refused(err)
}

// refused records a refusal, and returns err if the pass is to be repeated because of it.
func (s *scope) refused(err error) error {
	if err == nil {
		return nil
	}
	if c := cause.OfError(err); c.Known() {
		s.refusals = append(s.refusals, bad(c.Reason, c.String()))
		s.retry("the API server refused a child")
		return nil
	}
	s.refusals = append(s.refusals, unknown(v1alpha1.ReasonApplyFailed, cause.Sanitize(err.Error())))
	return err
}

// identities applies the service accounts of the pods, and what rotation Jobs report with.
func (r *Reconciler) identities(ctx context.Context, s *scope) error {
	objects := []client.Object{operand.ProgressConfigMap(s.sn), operand.RotationRole(s.sn), operand.RotationRoleBinding(s.sn)}
	for _, account := range operand.ServiceAccounts(s.sn) {
		objects = append(objects, account)
	}
	var errs []error
	for _, desired := range objects {
		_, err := r.apply(ctx, s, desired, nil)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// configuration applies the ConfigMap of the service. It needs the Vault connection and the
// deployment id.
func (r *Reconciler) configuration(ctx context.Context, s *scope) error {
	if !s.connected || !s.hasKeys {
		return nil
	}
	claimed, err := r.databaseClaimed(ctx, s)
	if err != nil {
		return err
	}
	s.env.DatabaseClaimed = claimed
	desired, err := operand.ConfigMap(s.sn, s.env)
	if err != nil {
		s.refusals = append(s.refusals, bad(v1alpha1.ReasonApplyFailed, err.Error()))
		return nil
	}
	s.configHash = operand.ConfigHash(desired)
	_, err = r.apply(ctx, s, desired, nil)
	return err
}

// workload applies the Deployment once the keys are known: pods without keys would crash.
func (r *Reconciler) workload(ctx context.Context, s *scope) error {
	existing := &appsv1.Deployment{}
	if s.volume != volumeAvailable {
		// A pod that is replaced may be the last one that has the lost volume open.
		s.workloadFinding = bad(v1alpha1.ReasonDatabaseLost, "the Deployment is not changed while the volume of the database is lost: see the condition DatabaseReady")
		return r.readDeployment(ctx, s, existing)
	}
	if s.configHash == "" {
		s.workloadFinding = bad(v1alpha1.ReasonWaitingForVault, "the Deployment waits for the master key: see the condition VaultReady")
		return r.readDeployment(ctx, s, existing)
	}
	if err := operand.CheckResources(s.sn); err != nil {
		s.refusals = append(s.refusals, bad(v1alpha1.ReasonInvalidResources, err.Error()))
		return r.readDeployment(ctx, s, existing)
	}
	if operand.TLSSecretName(s.sn, s.env) == "" {
		return r.readDeployment(ctx, s, existing) // the pods keep the Secret that they have mounted
	}
	if err := r.mayStart(ctx, s); err != nil {
		return err
	}
	accepted, err := r.apply(ctx, s, operand.Deployment(s.sn, s.env, s.configHash), existing)
	if err != nil || !metav1.IsControlledBy(existing, s.sn) {
		return err
	}
	s.deployment, s.deployed = existing, accepted
	return nil
}

// readDeployment reads the Deployment without changing it.
func (r *Reconciler) readDeployment(ctx context.Context, s *scope, existing *appsv1.Deployment) error {
	err := r.Client.Get(ctx, client.ObjectKeyFromObject(s.sn), existing)
	if err == nil && metav1.IsControlledBy(existing, s.sn) {
		s.deployment = existing
	}
	return client.IgnoreNotFound(err)
}

// disruptionBudget applies the PodDisruptionBudget, which exists only if there are several
// replicas.
func (r *Reconciler) disruptionBudget(ctx context.Context, s *scope) error {
	if desired := operand.DisruptionBudget(s.sn); desired != nil {
		_, err := r.apply(ctx, s, desired, nil)
		return err
	}
	existing := &metav1.PartialObjectMetadata{}
	existing.SetGroupVersionKind(policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"))
	return r.remove(ctx, s, s.sn.Name, existing)
}

// remove deletes a child that is no longer wanted, if the SecureNotes controls it.
func (r *Reconciler) remove(ctx context.Context, s *scope, name string, existing client.Object) error {
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: s.sn.Namespace, Name: name}, existing)
	if err != nil || !metav1.IsControlledBy(existing, s.sn) || existing.GetDeletionTimestamp() != nil {
		return client.IgnoreNotFound(err)
	}
	return r.delete(ctx, existing)
}

// delete deletes an object, and logs it. The UID is a precondition unless options have others.
func (r *Reconciler) delete(ctx context.Context, object client.Object, options ...client.DeleteOption) error {
	options = append([]client.DeleteOption{client.Preconditions{UID: new(object.GetUID())}}, options...)
	if err := r.Client.Delete(ctx, object, options...); err != nil {
		return client.IgnoreNotFound(err)
	}
	kind, err := apiutil.GVKForObject(object, r.Client.Scheme())
	if err != nil {
		return fmt.Errorf("kind of %T: %w", object, err)
	}
	log.FromContext(ctx).Info("deleted an object", "kind", kind.Kind, "object", client.ObjectKeyFromObject(object))
	return nil
}
