package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/notes"
)

// fencedState is the SQLSTATE that the trigger owner_keys_fence raises.
const fencedState = "SN001"

// uniqueViolation is the SQLSTATE of a second row with the same key.
const uniqueViolation = "23505"

func (postgresDialect) classify(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if server, ok := errors.AsType[*pgconn.PgError](err); ok {
		return classifyState(server)
	}
	if errors.Is(err, errNoLogin) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if isConnectionLoss(err) {
		return fmt.Errorf("%w: %s", ErrUnavailable, innermost(err))
	}
	return err
}

// isConnectionLoss reports whether there is no connection, or no longer one, to the server.
func isConnectionLoss(err error) bool {
	_, connect := errors.AsType[*pgconn.ConnectError](err)
	_, network := errors.AsType[net.Error](err)
	return connect || network || pgconn.SafeToRetry(err) || pgconn.Timeout(err) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, pgconn.ErrConnClosed)
}

// classifyState classifies a server's error by its SQLSTATE (PostgreSQL documentation, appendix A).
// It omits the error's detail, which quotes values.
func classifyState(server *pgconn.PgError) error {
	cause := withAdvice(server)
	switch server.Code {
	case "40001": // serialization_failure
		return fmt.Errorf("%w: %w", errRetry, cause)
	case "40P01", "55P03": // deadlock_detected, lock_not_available
		return fmt.Errorf("%w: %w", errLocked, cause)
	case fencedState:
		return fmt.Errorf("%w: %w", accounts.ErrFenced, cause)
	case "42P01": // undefined_table
		return fmt.Errorf("%w: %w", errNoTable, cause)
	case "42501": // insufficient_privilege
		return fmt.Errorf("%w: %w", ErrPermission, cause)
	case uniqueViolation:
		switch server.ConstraintName {
		case "users_username":
			return accounts.ErrUsernameTaken
		case "notes_pkey":
			return notes.ErrExists
		}
		return fmt.Errorf("%w: %w", errRetry, cause)
	case "23503": // foreign_key_violation
		return fmt.Errorf("%w: %w", errForeignKey, cause)
	}
	if isLoginRefusal(server) {
		return fmt.Errorf("%w: %w", ErrAuthentication, cause)
	}
	switch server.Code[:2] {
	case "08", "3D", "53": // connection, database name, insufficient resources
		return fmt.Errorf("%w: %w", ErrRefused, cause)
	case "57", "25": // operator intervention, read-only transaction
		return fmt.Errorf("%w: %w", ErrUnavailable, cause)
	case "42": // such as undefined_column
		return fmt.Errorf("%w: %w", ErrSchema, cause)
	}
	return cause
}

// innermost returns the text of the innermost error. The errors around it quote connection
// settings.
func innermost(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
