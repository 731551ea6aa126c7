// Package vault is the service's session with HashiCorp Vault: it logs in with the pod's projected
// service-account token, keeps the Vault token alive, bounds every call in time, and tells errors
// apart by what can be done about them.
package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/hashicorp/vault/api"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrUnavailable means that no answer, or an answer that a later try may better (5xx, 429).
	ErrUnavailable = errors.New("Vault is unavailable")
	// ErrSealed: Vault answers that it is sealed. It is also ErrUnavailable.
	ErrSealed = errors.New("Vault is sealed")
	// ErrDenied: Vault refuses the login or the token (403).
	ErrDenied = errors.New("Vault denies access")
	// ErrNotFound means that there is nothing at the path.
	ErrNotFound = errors.New("not found in Vault")
	// ErrInvalid: Vault refuses the request itself (400).
	ErrInvalid = errors.New("Vault refuses the request")
)

// classify turns the API's errors into those above. Its text holds what was done and Vault's
// status, never a request's or a response's body: those may hold secrets.
func classify(what string, err error) error {
	if err == nil {
		return nil
	}
	var response *api.ResponseError
	if !errors.As(err, &response) {
		var transport *url.Error
		if errors.Is(err, context.Canceled) || !errors.As(err, &transport) && !errors.Is(err, context.DeadlineExceeded) {
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

// transportCause is the innermost error: "connection refused", not the whole request.
func transportCause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// firstSentence is what Vault says is wrong, cut to 200 bytes.
func firstSentence(err error) string {
	var response *api.ResponseError
	if !errors.As(err, &response) || len(response.Errors) == 0 {
		return "no reason given"
	}
	text := strings.TrimSpace(response.Errors[0])
	if len(text) > 200 {
		text = text[:200]
	}
	return text
}
