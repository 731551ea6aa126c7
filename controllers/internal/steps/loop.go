package steps

import (
	"context"
	"errors"
	"fmt"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/controllers/internal/stalecache"
)

// MaxSteps bounds the steps of one pass. No operation has as many.
const MaxSteps = 32

// Loop is one pass over an operation.
type Loop[R, O any] struct {
	// Of is the kind and the name of the operation.
	Of string
	// Observe reads what the next step depends on, and Next decides about it.
	Observe func(context.Context) (O, error)
	Next    func(O) (Step[R, O], Decision)
	// Wait and Fail record a decision, and After says when a decision to wait is checked again.
	Wait, Fail func(context.Context, O, Decision) error
	After      func(Decision) time.Duration
	// Explain records an error that a person can act on, or that passes. It returns any other
	// error.
	Explain func(context.Context, O, error) (again bool, after time.Duration, unexplained error)
	// Log logs a step that was taken.
	Log func(context.Context, Step[R, O], O)
}

// Run takes as many steps as are due.
func (l Loop[R, O]) Run(ctx context.Context, r R) (ctrl.Result, error) {
	for range MaxSteps {
		again, after, err := l.Once(ctx, r)
		if stalecache.Is(err) {
			after = stalecache.RequeueAfter()
			log.FromContext(ctx).V(1).Info("requeued", "after", after.String(), "reason", err.Error())
			return ctrl.Result{RequeueAfter: after}, nil
		}
		if err != nil || !again {
			return ctrl.Result{RequeueAfter: after}, err
		}
	}
	return ctrl.Result{}, fmt.Errorf("%s: no end after %d steps", l.Of, MaxSteps)
}

// Once observes, decides, and takes one step. again says that another one may be due at once.
func (l Loop[R, O]) Once(ctx context.Context, r R) (again bool, after time.Duration, err error) {
	o, err := l.Observe(ctx)
	if err != nil {
		return l.Explain(ctx, o, err)
	}
	s, d := l.Next(o)
	switch d.Verdict {
	case Stop:
		return false, 0, nil
	case Wait:
		return false, l.After(d), l.Wait(ctx, o, d)
	case Fail:
		err = l.Fail(ctx, o, d)
	default:
		err = s.Do(withStep(ctx, s.Name), r, o)
		switch {
		case err == nil:
			l.Log(ctx, s, o)
		case errors.Is(err, ErrNotTaken):
			err = nil
		}
	}
	if err != nil {
		return l.Explain(ctx, o, err)
	}
	return true, 0, nil
}

// withStep returns a context whose logger names the step, for what the step writes to Vault.
func withStep(ctx context.Context, step string) context.Context {
	return log.IntoContext(ctx, log.FromContext(ctx).WithValues("step", step))
}
