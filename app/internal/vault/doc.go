// Package vault is the service's session with HashiCorp Vault. It bounds every call in time and
// classifies errors by what can be done about them. Package vaultlogin logs in and renews the
// token. Start at [Session].
package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/securenotes/securenotes/app/config/truncate"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrUnavailable means that Vault does not answer, or that a retry may succeed (HTTP 5xx, 429).
	ErrUnavailable = errors.New("Vault is unavailable")
	// ErrSealed means that Vault is sealed. It comes together with ErrUnavailable.
	ErrSealed = errors.New("Vault is sealed")
	// ErrDenied means that Vault rejects the login or the token (HTTP 403).
	ErrDenied = errors.New("Vault denies access")
	// ErrNotFound means that there is nothing at the path.
	ErrNotFound = errors.New("not found in Vault")
	// ErrInvalid means that Vault rejects the request itself (HTTP 400).
	ErrInvalid = errors.New("Vault refuses the request")
)

// classify turns the API's errors into those above. Their text names the operation and the HTTP
// status. It never quotes the body of a request or a response, which may contain secrets.
func classify(what string, err error) error {
	if err == nil {
		return nil
	}
	response, ok := errors.AsType[*api.ResponseError](err)
	if !ok {
		_, transport := errors.AsType[*url.Error](err)
		if errors.Is(err, context.Canceled) || !transport && !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("%s: %w", what, err)
		}
		return fmt.Errorf("%s: %w: %s", what, ErrUnavailable, transportCause(err))
	}
	status := response.StatusCode
	switch {
	case status == http.StatusServiceUnavailable && mentions(response, "sealed"):
		return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, ErrSealed)
	case status >= 500 || status == http.StatusTooManyRequests:
		return fmt.Errorf("%s: %w: HTTP %d", what, ErrUnavailable, status)
	case status == http.StatusForbidden:
		return fmt.Errorf("%s: %w: HTTP 403", what, ErrDenied)
	case status == http.StatusNotFound:
		return fmt.Errorf("%s: %w", what, ErrNotFound)
	default:
		return fmt.Errorf("%s: %w: HTTP %d", what, ErrInvalid, status)
	}
}

func mentions(response *api.ResponseError, word string) bool {
	for _, text := range response.Errors {
		if strings.Contains(strings.ToLower(text), word) {
			return true
		}
	}
	return false
}

// transportCause returns the innermost error: "connection refused", not the whole request.
func transportCause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// maxMessage bounds what an error quotes of Vault's message, in bytes.
const maxMessage = 200

// firstMessage returns Vault's first error message, truncated.
func firstMessage(err error) string {
	response, ok := errors.AsType[*api.ResponseError](err)
	if !ok || len(response.Errors) == 0 {
		return "no reason given"
	}
	return truncate.Bytes(strings.TrimSpace(response.Errors[0]), maxMessage)
}
