package vaultadmin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/api"
)

// Problem says what kind of trouble an Error is. Its text is the reason of a condition.
type Problem string

// The kinds of trouble.
const (
	// Unreachable: no answer, or one that is not Vault's. Retryable.
	Unreachable Problem = "VaultUnreachable"
	// Busy: earlier calls are still under way. Nothing is known of Vault; to be tried again soon.
	Busy Problem = "VaultBusy"
	// Sealed: Vault answers, sealed or without an active node. Retryable.
	Sealed Problem = "VaultSealed"
	// SetupMissing: Vault refuses the operator's login: vault-setup has not run, or not for this
	// operator. Or it has not given a right that one feature alone needs; see [OfFeature].
	SetupMissing Problem = "SetupMissing"
	// Denied: the login works, but a right is missing.
	Denied Problem = "VaultDenied"
	// Retained: the key belongs to another object, and may not be adopted.
	Retained Problem = "KeyRetained"
	// Taken: another object has adopted the key since.
	Taken Problem = "KeyTaken"
	// ClusterIDChanged: the key was made under another cluster id than the operator's.
	ClusterIDChanged Problem = "ClusterIDChanged"
	// Missing: something that once existed is not there any more.
	Missing Problem = "KeyMissing"
	// Unsuitable: the key exists with properties that it must not have.
	Unsuitable Problem = "KeyUnsuitable"
	// DatabaseRoleMissing: Vault's database engine has no role for the object.
	DatabaseRoleMissing Problem = "DatabaseRoleMissing"
	// RevocationFailed: Vault could not drop a database user. Retryable.
	RevocationFailed Problem = "RevocationFailed"
	// UnknownConnection: the operator's configuration has no connection of that name.
	UnknownConnection Problem = "UnknownVaultConnection"
	// Unexpected: anything else.
	Unexpected Problem = "VaultUnexpected"
)

// Error is what went wrong with Vault. Its text is for people: it names paths and status codes,
// never tokens or values, and not Vault's own words, which can quote either.
type Error struct {
	Problem   Problem
	message   string
	cause     error
	ofFeature bool
}

func (e *Error) Error() string { return e.message }

// Unwrap gives the cause, for logs.
func (e *Error) Unwrap() error { return e.cause }

func problem(p Problem, format string, args ...any) *Error {
	return &Error{Problem: p, message: fmt.Sprintf(format, args...)}
}

// NeededBy turns a denied right that only the named feature needs into SetupMissing: vault-setup
// ran without a flag, or is of an earlier release. Everything else goes on without it.
func NeededBy(feature string, err error) error {
	if ProblemOf(err) != Denied {
		return err
	}
	return &Error{Problem: SetupMissing, message: err.Error() + ", which " + feature + " needs", cause: errors.Unwrap(err), ofFeature: true}
}

// OfFeature reports whether err is of [NeededBy]: Vault is ready all the same.
func OfFeature(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.ofFeature
}

// UnknownConnectionError says that the operator's configuration has no connection of that name.
func UnknownConnectionError(name string) error {
	return problem(UnknownConnection,
		"the operator has no Vault connection %q: ask the cluster's administrator to add it to vaultConnections in the values of the operator's chart", name)
}

// ClusterIDChangedError says that an object's keys are under another cluster id: key is the master
// key's name as it was recorded, prefix, how the names of the operator's own keys begin.
func ClusterIDChangedError(key, prefix string) error {
	return problem(ClusterIDChanged, "the master key is %s, but the names of this operator's keys begin with %s: "+
		"set clusterID in the values of the operator's chart to the id in the key's name; nothing is changed until then", key, prefix)
}

// ProblemOf classifies err; an error that is not an Error is Unexpected.
func ProblemOf(err error) Problem {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Problem
	}
	return Unexpected
}

// classify turns an error of Vault's client into an Error. path is the API path that was called.
func classify(address, path string, err error) error {
	if err == nil {
		return nil
	}
	var response *api.ResponseError
	if !errors.As(err, &response) {
		message := fmt.Sprintf("Vault at %s does not answer", address)
		if errors.Is(err, context.DeadlineExceeded) {
			message += " in time"
		}
		return &Error{Problem: Unreachable, message: message, cause: err}
	}
	wrap := func(p Problem, format string, args ...any) error {
		return &Error{Problem: p, message: fmt.Sprintf(format, args...), cause: err}
	}
	switch code := response.StatusCode; {
	case code == http.StatusForbidden:
		return wrap(Denied, "Vault at %s denies the operator %s %s", address, response.HTTPMethod, path)
	case code == http.StatusServiceUnavailable && strings.Contains(strings.Join(response.Errors, " "), "sealed"):
		return wrap(Sealed, "Vault at %s is sealed", address)
	case code >= 500 || code == http.StatusTooManyRequests:
		return wrap(Unreachable, "Vault at %s answers %d to %s %s", address, code, response.HTTPMethod, path)
	default:
		return wrap(Unexpected, "Vault at %s answers %d to %s %s", address, code, response.HTTPMethod, path)
	}
}

func isStatus(err error, code int) bool {
	response, ok := errors.AsType[*api.ResponseError](err)
	return ok && response.StatusCode == code
}
