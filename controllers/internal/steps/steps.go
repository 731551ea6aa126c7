// Package steps carries out long operations, such as a rotation or a backup, as an ordered list of
// steps. A pass observes, takes the first step that is due, and starts again, until one waits or
// nothing is left to do. A step records what it relies on in the status before it acts, and its
// result afterwards, so that an operator that dies at any instant continues where it stopped.
//
// Start with [Step], [Next] and [Loop]. [Job] has the steps of a Job, and parent.go those that wait
// for the SecureNotes. Package keyrotation is the larger user, and notesbackup the smaller one.
//
// In the type parameters, R is the reconciler, and O is everything that a decision depends on.
package steps

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/securenotes/securenotes/controllers/internal/cause"
)

// Step is one thing that an operation does.
type Step[R, O any] struct {
	Name string
	// Due decides from what was observed whether the step comes now, and whether it is taken. It is
	// a pure function. It may rely on every earlier step not being due.
	Due func(O) (Decision, bool)
	// Do takes the step. It is nil if Due never decides so. An [ErrNotTaken] says that it did not.
	Do func(context.Context, R, O) error
	// Job returns the name of the Job that the step is about, for the log. It may be nil.
	Job func(O) string
}

// ErrNotTaken says that a step found a reason not to be taken, and dealt with it. The list is
// walked again, but the log must not show the step.
var ErrNotTaken = errors.New("the step was not taken")

// Verdict is what becomes of a step that is due.
type Verdict string

const (
	// Take takes the step. Then the list is walked again.
	Take Verdict = ""
	// Wait takes no step until something changes.
	Wait Verdict = "Wait"
	// Fail ends the operation as Failed.
	Fail Verdict = "Fail"
	// Stop means that nothing is left to do.
	Stop Verdict = "None"
)

// Decision is what becomes of a step that is due, and what to tell people about it.
type Decision struct {
	Verdict         Verdict
	Reason, Message string
	// Cause is why what is waited for does not happen.
	Cause cause.Cause
	// MayAbandon says that an operation that is deleted does not wait until it has ended.
	MayAbandon bool
	// Final means that a retry of the failed operation cannot succeed.
	Final bool
}

// Next returns the first step of the list that is due, and its decision. If none is, the decision
// is to stop.
func Next[R, O any](list []Step[R, O], o O) (Step[R, O], Decision) {
	for _, s := range list {
		if d, due := s.Due(o); due {
			return s, d
		}
	}
	return Step[R, O]{Name: "Stop"}, Decision{Verdict: Stop}
}

// When has a step taken whenever condition holds.
func When[O any](condition func(O) bool) func(O) (Decision, bool) {
	return func(o O) (Decision, bool) { return Decision{}, condition(o) }
}

// Only returns the steps as they are while condition holds. They are not due otherwise.
func Only[R, O any](condition func(O) bool, list []Step[R, O]) []Step[R, O] {
	limited := slices.Clone(list)
	for i, s := range list {
		limited[i].Due = func(o O) (Decision, bool) {
			if !condition(o) {
				return NotDue()
			}
			return s.Due(o)
		}
	}
	return limited
}

// Waiting returns the decision to wait.
func Waiting(reason, format string, args ...any) (Decision, bool) {
	return Decision{Verdict: Wait, Reason: reason, Message: fmt.Sprintf(format, args...)}, true
}

// Failing returns the decision to fail. A retry is possible once the cause is corrected.
func Failing(reason, format string, args ...any) (Decision, bool) {
	return Decision{Verdict: Fail, Reason: reason, Message: fmt.Sprintf(format, args...)}, true
}

// FailingForGood returns the decision to fail where a retry cannot succeed.
func FailingForGood(reason, format string, args ...any) (Decision, bool) {
	d, due := Failing(reason, format, args...)
	d.Final = true
	return d, due
}

// NotDue is the decision of a step that is not due.
func NotDue() (Decision, bool) { return Decision{}, false }
