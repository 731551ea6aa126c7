package trustedjob

import (
	"context"
	"errors"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
)

// Expected describes the Job that is believed.
type Expected struct {
	Key client.ObjectKey
	// Owner controls the Job.
	Owner client.Object
	// Recorded is the identity that was recorded when the Job was created. It is empty if the
	// operator died before it could record it. Only then is the Job compared with what Build
	// returns, because an upgrade of the operator changes that.
	Recorded Identity
	// Pods is how many pods have to succeed, each of an index of its own.
	Pods int32
	// Reports says that the outcome of a complete Job needs what its pod reported.
	Reports bool
	Build   func(context.Context) (*batchv1.Job, error)
}

// ForeignError says that a Job has the expected name but is not the expected Job.
type ForeignError struct{ job, why string }

func (e *ForeignError) Error() string { return fmt.Sprintf("Job %s %s: delete it", e.job, e.why) }

// check returns a [ForeignError] for a Job that is not the expected one.
func (e Expected) check(ctx context.Context, job *batchv1.Job) error {
	if !metav1.IsControlledBy(job, e.Owner) || job.Labels[operand.LabelManagedBy] != operand.ManagedBy {
		return &ForeignError{job.Name, "exists and does not belong to " + e.Owner.GetName()}
	}
	if e.Recorded.Known() {
		if job.UID != e.Recorded.UID {
			return &ForeignError{job.Name, "is not the one that the operator created, but another of the same name"}
		}
		return nil
	}
	built, err := e.Build(ctx)
	if err != nil {
		return err
	}
	if difference := operand.Difference(built, job); difference != "" {
		return &ForeignError{job.Name, "is not as the operator creates it, but differs in its " + difference}
	}
	return nil
}

// Create creates the Job and returns its identity, which the caller records at once. If there is a
// Job of that name already, the error is a [ForeignError] or, if it is the expected Job, a
// [stalecache.Error].
func (e Expected) Create(ctx context.Context, writer client.Writer, live client.Reader) (Identity, error) {
	job, err := e.Build(ctx)
	if err != nil {
		return Identity{}, err
	}
	err = writer.Create(ctx, job)
	if err == nil {
		return Identify(job)
	}
	if !apierrors.IsAlreadyExists(err) {
		return Identity{}, err
	}
	existing := &batchv1.Job{}
	if err := live.Get(ctx, e.Key, existing); err != nil {
		return Identity{}, err
	}
	if err := e.check(ctx, existing); err != nil {
		return Identity{}, err
	}
	return Identity{}, stalecache.New("Job", e.Key.Name, "it exists")
}

// Gone reports, past the cache, whether there is no Job of the name.
func (e Expected) Gone(ctx context.Context, live client.Reader) (bool, error) {
	err := live.Get(ctx, e.Key, &batchv1.Job{})
	return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
}

// LeastCPU returns the least CPU that a Job in the namespace of a SecureNotes may request.
func LeastCPU(ctx context.Context, live client.Reader, sn *v1alpha1.SecureNotes) (resource.Quantity, error) {
	if sn.Spec.Resources != nil {
		return resource.Quantity{}, nil // the spec decides
	}
	list := &corev1.LimitRangeList{}
	if err := live.List(ctx, list, client.InNamespace(sn.Namespace)); err != nil {
		return resource.Quantity{}, fmt.Errorf("read the LimitRanges of namespace %s: %w", sn.Namespace, err)
	}
	return operand.LeastCPU(list.Items), nil
}

// maxPods bounds the pods of a failed Job that are read past the cache. Anyone may create pods with
// its label.
const maxPods = 100

// Read returns the outcome of the expected Job. It reads two kinds of Jobs through live, not from
// the cache, which omits their spec: a Job whose identity is not recorded yet, and a complete one.
// For a Job that runs and does not complete, lookup finds out why.
func (e Expected) Read(ctx context.Context, reader, live client.Reader, lookup cause.Lookup, now time.Time) (Outcome, error) {
	owner := e.Owner.GetUID()
	job := &batchv1.Job{}
	err := reader.Get(ctx, e.Key, job)
	if err == nil && (!e.Recorded.Known() || outcomeOf(job, owner, nil).Phase == Complete) {
		job = &batchv1.Job{}
		err = live.Get(ctx, e.Key, job)
	}
	if apierrors.IsNotFound(err) {
		return outcomeOf(nil, owner, nil), nil
	}
	if err != nil {
		return Outcome{}, err
	}
	if err := e.check(ctx, job); err != nil {
		if foreign, ok := errors.AsType[*ForeignError](err); ok {
			return Outcome{Name: job.Name, Phase: Foreign, Message: foreign.Error()}, nil
		}
		return Outcome{}, err
	}
	pods := &corev1.PodList{}
	ofJob := []client.ListOption{client.InNamespace(e.Key.Namespace), client.MatchingLabels{batchv1.JobNameLabel: e.Key.Name}}
	if err := reader.List(ctx, pods, ofJob...); err != nil {
		return Outcome{}, err
	}
	outcome := outcomeOf(job, owner, pods.Items)
	switch {
	case outcome.Phase == Running:
		outcome.Cause = cause.OfJob(job, e.Pods, pods.Items, lookup, now)
	case outcome.Phase == Failed && outcome.Reason == "":
		if err := listPods(ctx, live, pods, ofJob); err != nil {
			return Outcome{}, err
		}
		outcome = outcomeOf(job, owner, pods.Items)
	case outcome.Phase == Complete:
		err := e.checkComplete(job)
		if tampered, ok := errors.AsType[*tamperedError](err); ok {
			outcome = Outcome{Name: job.Name, Phase: Failed, Message: tampered.Error()}
		} else if err != nil {
			return Outcome{}, err
		} else if outcome.Report, err = e.report(ctx, live, job, pods, ofJob); err != nil {
			return Outcome{}, err
		}
	}
	outcome.Identity, err = Identify(job)
	return outcome, err
}

// report returns what the pod of a complete Job reported, if it is needed.
func (e Expected) report(ctx context.Context, live client.Reader, job *batchv1.Job, pods *corev1.PodList, ofJob []client.ListOption) (string, error) {
	if !e.Reports {
		return "", nil
	}
	if report := reportOf(job, pods.Items); report != "" {
		return report, nil
	}
	err := listPods(ctx, live, pods, ofJob)
	return reportOf(job, pods.Items), err
}

// listPods reads the pods of a Job past the cache, because the cache of pods may be behind the
// cache of Jobs.
func listPods(ctx context.Context, live client.Reader, pods *corev1.PodList, ofJob []client.ListOption) error {
	return live.List(ctx, pods, append(ofJob, client.Limit(maxPods))...)
}
