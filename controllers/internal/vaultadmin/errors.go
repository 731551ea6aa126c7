package vaultadmin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/api"
)

// Problem is the kind of an Error. Its text is the reason of a condition.
type Problem string

// The kinds of errors.
const (
	// Unreachable means that there is no answer, or none of Vault. Retryable.
	Unreachable Problem = "VaultUnreachable"
	// Busy means that earlier calls are still in progress. It says nothing about Vault. Retry soon.
	Busy Problem = "VaultBusy"
	// Sealed means that Vault is sealed or has no active node. Retryable.
	Sealed Problem = "VaultSealed"
	// SetupMissing means that Vault rejects the operator's login, because vault-setup has not run
	// for this operator. Or it has not granted a right that only one feature needs; see
	// [OfFeature].
	SetupMissing Problem = "SetupMissing"
	// Denied means that the login works, but a right is missing.
	Denied Problem = "VaultDenied"
	// Retained means that the key belongs to another object, and may not be adopted.
	Retained Problem = "KeyRetained"
	// Taken means that another object has adopted the key.
	Taken Problem = "KeyTaken"
	// ClusterIDChanged means that the key belongs to another cluster id than the operator's.
	ClusterIDChanged Problem = "ClusterIDChanged"
	// Missing means that something that existed is missing.
	Missing Problem = "KeyMissing"
	// Unsuitable means that the key has properties that it must not have.
	Unsuitable Problem = "KeyUnsuitable"
	// DatabaseRoleMissing means that Vault's database engine has no role for the object.
	DatabaseRoleMissing Problem = "DatabaseRoleMissing"
	// RevocationFailed means that Vault could not drop a database user. Retryable.
	RevocationFailed Problem = "RevocationFailed"
	// UnknownConnection means that the operator's configuration has no connection of that name.
	UnknownConnection Problem = "UnknownVaultConnection"
	// Unexpected is any other error.
	Unexpected Problem = "VaultUnexpected"
)

// Error is an error of Vault. Its text is for people. It names paths and status codes. It never
// quotes tokens, values or Vault's own text, which can quote either.
type Error struct {
	Problem   Problem
	message   string
	cause     error
	ofFeature bool
}

func (e *Error) Error() string { return e.message }

// Unwrap returns the cause, for logs.
func (e *Error) Unwrap() error { return e.cause }

func problem(p Problem, format string, args ...any) *Error {
	return &Error{Problem: p, message: fmt.Sprintf(format, args...)}
}

// NeededBy turns Denied into SetupMissing for a right that only the named feature needs.
// vault-setup ran without a flag, or was that of an earlier release. Everything else works without
// the right.
func NeededBy(feature string, err error) error {
	if ProblemOf(err) != Denied {
		return err
	}
	return &Error{Problem: SetupMissing, message: err.Error() + ", which " + feature + " needs", cause: errors.Unwrap(err), ofFeature: true}
}

// OfFeature reports whether err is from [NeededBy]. Vault is ready nevertheless.
func OfFeature(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.ofFeature
}

// UnknownConnectionError returns an error for a name that the operator's configuration does not
// have.
func UnknownConnectionError(name string) error {
	return problem(UnknownConnection,
		"the operator has no Vault connection %q: ask the cluster's administrator to add it to vaultConnections in the values of the operator's chart", name)
}

// ClusterIDChangedError returns an error for an object whose keys belong to another cluster id. key
// is the recorded name of the master key, and prefix that of the operator's keys.
func ClusterIDChangedError(key, prefix string) error {
	return problem(ClusterIDChanged, "the master key is %s, but the names of this operator's keys begin with %s: "+
		"set clusterID in the values of the operator's chart to the id in the key's name; nothing is changed until then", key, prefix)
}

// ProblemOf returns the Problem of err. Without an Error, it is Unexpected.
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
	response, ok := errors.AsType[*api.ResponseError](err)
	if !ok {
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
