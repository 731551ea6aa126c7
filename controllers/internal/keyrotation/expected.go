package keyrotation

import (
	"context"
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
)

// Expected says which Job is believed. A name, labels and an owner reference can be written by whoever
// may create Jobs in the namespace; the UID of the Job that was made cannot.
type Expected struct {
	Key client.ObjectKey
	// Owner controls the Job.
	Owner client.Object
	// Recorded is what was recorded when the Job was created; empty if the operator died between
	// the two. Only then is the Job compared with what Build returns, because an upgrade of the
	// operator changes that.
	Recorded MadeJob
	// Pods is how many pods have to succeed, each of an index of its own.
	Pods  int32
	Build func(context.Context) (*batchv1.Job, error)
}

// Foreign says why a Job is not the expected one, with what to do; empty: it is.
func (e Expected) Foreign(ctx context.Context, job *batchv1.Job) (string, error) {
	if !metav1.IsControlledBy(job, e.Owner) || job.Labels[operand.LabelManagedBy] != operand.ManagedBy {
		return fmt.Sprintf("Job %s exists and does not belong to %s: delete it", job.Name, e.Owner.GetName()), nil
	}
	if e.Recorded.UID != "" {
		if job.UID != e.Recorded.UID {
			return fmt.Sprintf("Job %s is not the one that the operator made, but another of its name: delete it", job.Name), nil
		}
		return "", nil
	}
	built, err := e.Build(ctx)
	if err != nil {
		return "", err
	}
	if difference := operand.Difference(built, job); difference != "" {
		return fmt.Sprintf("Job %s is not as the operator makes it, but differs in its %s: delete it", job.Name, difference), nil
	}
	return "", nil
}

// Create creates the Job and returns what to record about it at once. If there is one already that
// the cache does not show, it returns why that one is foreign; if it is not, both are empty, and
// the cache will soon have it.
func (e Expected) Create(ctx context.Context, writer client.Writer, live client.Reader) (made MadeJob, foreign string, err error) {
	job, err := e.Build(ctx)
	if err != nil {
		return MadeJob{}, "", err
	}
	err = writer.Create(ctx, job)
	if err == nil {
		made, err = madeJob(job)
		return made, "", err
	}
	if !apierrors.IsAlreadyExists(err) {
		return MadeJob{}, "", err
	}
	existing := &batchv1.Job{}
	if err := live.Get(ctx, e.Key, existing); err != nil {
		return MadeJob{}, "", err
	}
	foreign, err = e.Foreign(ctx, existing)
	return MadeJob{}, foreign, err
}

// Gone says, past the cache, whether there is no Job of the name.
func (e Expected) Gone(ctx context.Context, live client.Reader) (bool, error) {
	err := live.Get(ctx, e.Key, &batchv1.Job{})
	return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
}

// LeastCPU reads what the namespace of a SecureNotes lets a Job ask for at least.
func LeastCPU(ctx context.Context, live client.Reader, sn *v1alpha1.SecureNotes) (resource.Quantity, error) {
	if sn.Spec.Resources != nil {
		return resource.Quantity{}, nil // what it asks for holds
	}
	list := &corev1.LimitRangeList{}
	if err := live.List(ctx, list, client.InNamespace(sn.Namespace)); err != nil {
		return resource.Quantity{}, fmt.Errorf("read the LimitRanges of namespace %s: %w", sn.Namespace, err)
	}
	return operand.LeastCPU(list.Items), nil
}

// maxPods bounds the pods of a failed Job that are read past the cache. Anyone may make pods of its
// label.
const maxPods = 100

// ReadOutcome reads a Job and its pods. What is recorded or believed is read past the cache, which
// does not have the Job's spec. look finds out why it does not come to its end.
func ReadOutcome(ctx context.Context, reader, live client.Reader, expected Expected, look cause.Look, now time.Time) (JobOutcome, error) {
	owner := expected.Owner.GetUID()
	job := &batchv1.Job{}
	err := reader.Get(ctx, expected.Key, job)
	if err == nil && (expected.Recorded.UID == "" || Outcome(job, owner, nil).Phase == JobComplete) {
		job = &batchv1.Job{}
		err = live.Get(ctx, expected.Key, job)
	}
	if apierrors.IsNotFound(err) {
		return Outcome(nil, owner, nil), nil
	}
	if err != nil {
		return JobOutcome{}, err
	}
	foreign, err := expected.Foreign(ctx, job)
	if err != nil {
		return JobOutcome{}, err
	}
	if foreign != "" {
		return JobOutcome{Name: job.Name, Phase: JobForeign, Message: foreign}, nil
	}
	pods := &corev1.PodList{}
	ofJob := []client.ListOption{client.InNamespace(expected.Key.Namespace), client.MatchingLabels{batchv1.JobNameLabel: expected.Key.Name}}
	if err := reader.List(ctx, pods, ofJob...); err != nil {
		return JobOutcome{}, err
	}
	outcome := Outcome(job, owner, pods.Items)
	if outcome.Phase == JobFailed && outcome.Reason == "" {
		// The cache of pods may be behind that of Jobs.
		if err := live.List(ctx, pods, append(ofJob, client.Limit(maxPods))...); err != nil {
			return JobOutcome{}, err
		}
		outcome = Outcome(job, owner, pods.Items)
	}
	if outcome.Phase == JobComplete {
		distrust, err := expected.distrust(job)
		if err != nil {
			return JobOutcome{}, err
		}
		if distrust != "" {
			outcome = JobOutcome{Name: job.Name, Phase: JobFailed, Message: distrust}
		}
	}
	if outcome.Phase == JobRunning {
		outcome.Cause = cause.OfJob(job, expected.Pods, pods.Items, look, now)
	}
	outcome.Made, err = madeJob(job)
	return outcome, err
}
