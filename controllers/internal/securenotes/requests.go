package securenotes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
)

// request is an annotation that requests objects, with its record in the status.
type request struct {
	annotation string
	// what is what the annotation requests, for messages.
	what string
	// last and handled are the fields of the status.
	last    *string
	handled *int64
	// seed makes the names differ from those of other objects and times with the same count.
	seed string
	// newer is what is newer than the value of the annotation, which then requests nothing. It is
	// empty if the value counts.
	newer string
	// reason and action are those of the event about a value that requests nothing.
	reason, action string
	// create creates the requested object, and reports whether it exists.
	create func(name string) (exists bool, err error)
}

// createRequested creates the object that the annotation requests. Its name is derived from the
// value and the number of requests that were handled before. So a repeated pass creates no second
// object, and a value that is used again creates another one.
func (s *scope) createRequested(q request) error {
	value, requested := rotations.Requested(s.sn.Annotations, q.annotation, *q.last)
	if !requested {
		return nil
	}
	if q.newer != "" {
		// The annotation was set together with the spec, for example by GitOps.
		s.event(corev1.EventTypeNormal, q.reason, q.action, fmt.Sprintf(
			"the annotation %s is older than %s: it requests a %s when its value changes", q.annotation, q.newer, q.what))
		*q.last = value
		return nil
	}
	if exists, err := q.create(s.sn.Name + "-req-" + shortHash(fmt.Sprintf("%s/%d/%s", q.seed, *q.handled, value))); err != nil || !exists {
		return err
	}
	*q.last = value
	*q.handled++
	return nil
}

// shortHash returns ten hexadecimal digits that stand for a text in a name.
func shortHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])[:10]
}

// clockSkew is how far the API server's clock may be behind the operator's.
const clockSkew = time.Minute

// wanted is a KeyRotation or a NotesBackup that the operator is to create.
type wanted[T client.Object, C ~string] struct {
	object T
	kind   string
	// reason and action are those of the event.
	reason, action string
	// createdBy returns the field status.createdBy, whose value is to be by.
	createdBy func(T) *C
	by        C
	// due is when the object was due. One that was created earlier is another one.
	due time.Time
	// existing is where an object of the same name is read to, and same reports whether it is the
	// wanted one.
	existing T
	same     func() bool
	// trouble is set if it is another one.
	trouble *finding
}

// createOnce creates a wanted object, and reports whether it exists. An earlier pass may have
// created it and died before it recorded that. An object of the same name that differs, or that was
// created before the due time, is not the wanted one, and is reported.
func createOnce[T client.Object, C ~string](ctx context.Context, r *Reconciler, s *scope, w wanted[T, C]) (exists bool, err error) {
	err = r.Client.Create(ctx, w.object)
	if err == nil {
		if err := recordCreator(ctx, r, w.object, w); err != nil {
			return false, err
		}
		name := w.object.GetName()
		log.FromContext(ctx).Info("created a "+w.kind, strings.ToLower(w.kind[:1])+w.kind[1:], name, "createdBy", w.by)
		r.Recorder.Eventf(s.sn, w.object, corev1.EventTypeNormal, w.reason, w.action, "created %s %s", w.kind, name)
		return true, nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return false, err
	}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(w.object), w.existing); err != nil {
		return false, err
	}
	if maps.Equal(w.existing.GetLabels(), w.object.GetLabels()) && w.same() &&
		!w.existing.GetCreationTimestamp().Time.Before(w.due.Add(-clockSkew)) {
		return true, recordCreator(ctx, r, w.existing, w)
	}
	*w.trouble = bad(v1alpha1.ReasonNameConflict, fmt.Sprintf(
		"%s %s exists already, and is not the one that is due: delete it, and the operator creates the other", w.kind, w.object.GetName()))
	s.retry("a " + w.kind + " of another creator has the requested name")
	return false, nil
}

// recordCreator records in the object's status that the operator created it. The request is
// recorded as handled only after that, so an interrupted pass repeats this step.
func recordCreator[T client.Object, C ~string](ctx context.Context, r *Reconciler, object T, w wanted[T, C]) error {
	if *w.createdBy(object) == w.by {
		return nil
	}
	before, ok := object.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("a copy of %s %s has no metadata", w.kind, object.GetName())
	}
	*w.createdBy(object) = w.by
	return client.IgnoreNotFound(r.Client.Status().Patch(ctx, object, client.MergeFrom(before)))
}
