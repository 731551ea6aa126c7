package store

import (
	"context"
	"errors"
	"strings"
)

// Errors of [Backups] and [Restoration].
var (
	// ErrWaiters means that a snapshot has ended because another session, such as a migration,
	// waits for it.
	ErrWaiters = errors.New("the backup ends so that a migration can continue; it is repeated later")
	// ErrNotEmpty means that the database has users, and that they are not from an unfinished
	// restore.
	ErrNotEmpty = errors.New("the database has users")
	// ErrInUse means that a pod of the API is connected to the database.
	ErrInUse = errors.New("the database is in use")
	// ErrRestoreSuperseded means that another restore has taken over the database, or that the
	// restore has finished.
	ErrRestoreSuperseded = errors.New("the database is not, or no longer, one that this restore fills")
	// ErrForeignRows means that something other than the restore has written to the database, or
	// that a crash of the server has undone some of its writes.
	ErrForeignRows = errors.New("the database has rows that are not from this restore, or it was restarted and has lost some: " +
		"stop everything else that uses the database, and run the restore again")
)

// ColumnKind is how a backup represents the values of a column.
type ColumnKind string

// The kinds of columns. Their values are a string, an int64 and a []byte, or nil for NULL.
const (
	TextColumn    ColumnKind = "text"
	IntegerColumn ColumnKind = "integer"
	BytesColumn   ColumnKind = "bytes"
)

// Column is a column of a table.
type Column struct {
	Name string
	Kind ColumnKind
}

// Table is a table with the columns that a backup contains.
type Table struct {
	Name    string
	Columns []Column
}

// Backups reads a database for a backup.
type Backups interface {
	// Snapshot begins to read the database as it is at this instant. It may be one at a time per
	// Store. Errors: ErrSchema, when migrations are pending, or when the schema has a table of
	// which this program does not know whether it belongs into a backup.
	Snapshot(context.Context) (Snapshot, error)
}

// Snapshot is a database at one instant. It is not safe for concurrent use. Its methods return
// ErrWaiters once another session waits for it, and the same error from then on.
type Snapshot interface {
	// Meta is that of [Deployment].
	Meta(context.Context) (Meta, error)
	// Fence and OldestVersion are those of [Rotation].
	Fence(context.Context) (int, error)
	OldestVersion(context.Context) (int, error)
	// Schema returns the number of the last migration.
	Schema(context.Context) (int64, error)
	// Tables returns the tables of a backup. A table comes after those that its rows refer to.
	Tables(context.Context) ([]Table, error)
	// Rows calls visit with every row of a table of Tables, in the order of its primary key. The
	// values are in the order of the columns, and valid until visit returns.
	Rows(ctx context.Context, t Table, visit func(values []any) error) error
	// Close ends the snapshot.
	Close() error
}

// Restoration fills a database from a backup. A run is one attempt; its name is random.
type Restoration interface {
	// CheckRestore returns why StartRestore would refuse the database for a SecureNotes, and writes
	// nothing. It accepts a database without a schema.
	CheckRestore(ctx context.Context, belongsTo string, existing Existing) error
	// StartRestore makes the database one that run fills, and that no deployment accepts. It is
	// called once per run. In one transaction, it deletes all rows, sets the fence to 0, and
	// records BelongsTo and the canary of m. Errors: ErrNotEmpty if there are users, which no
	// unfinished restore has loaded and existing refuses, ErrInUse, ErrOtherDeployment if the
	// unfinished restore is that of another BelongsTo, ErrSchema if there is a table with which
	// Snapshot would refuse the database.
	StartRestore(ctx context.Context, run string, m Meta, existing Existing) error
	// Load inserts rows into a table of a backup, in one transaction. It is safe for concurrent use
	// with other rows of the same table. Columns that t lacks are NULL. A crash of the server
	// before FinishRestore may undo it, which FinishRestore notices. Errors: ErrRestoreSuperseded,
	// ErrForeignRows, ErrSchema when the table or one of its columns does not exist.
	Load(ctx context.Context, run string, t Table, rows [][]any) error
	// FinishRestore gives the database to the deployment of m, with a new epoch, and raises the
	// fence. want is how many rows each table of the backup has. Errors: ErrRestoreSuperseded,
	// ErrForeignRows.
	FinishRestore(ctx context.Context, run string, m Meta, fence int, want map[string]int64) error
}

// Existing is what becomes of the users, and of everything else, that a database has before a
// restore.
type Existing int

const (
	// RefuseExisting means that a database with users is refused.
	RefuseExisting Existing = iota
	// DeleteExisting means that all rows are deleted.
	DeleteExisting
)

// restoringPrefix begins the deployment id of a database that a restore has not finished. Every
// release refuses such a database: the id of a deployment is the UID of its object.
const restoringPrefix = "restoring:"

// Restoring reports whether the deployment id is that of a database that a restore has not
// finished, and returns the restore's run.
func Restoring(deploymentID string) (run string, ok bool) {
	return strings.CutPrefix(deploymentID, restoringPrefix)
}
