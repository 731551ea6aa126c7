package archive

import (
	"fmt"
	"regexp"
	"slices"
)

// ColumnType is the type of a column's values.
type ColumnType string

const (
	// Text is a JSON string of valid UTF-8.
	Text ColumnType = "text"
	// Integer is a JSON number that fits in an int64.
	Integer ColumnType = "integer"
	// Bytes is a JSON string in base64 (RFC 4648, section 4, with padding).
	Bytes ColumnType = "bytes"
)

// Column is a column of a table.
type Column struct {
	Name string     `json:"name"`
	Type ColumnType `json:"type"`
}

// Table is a table, with the columns of its rows in order.
type Table struct {
	Name    string   `json:"name"`
	Columns []Column `json:"columns"`
}

// Canary is a value that only the right master key opens.
type Canary struct {
	// ID is the id of the canary's key, and Wrapped that key under the master key.
	ID      string `json:"id"`
	Wrapped string `json:"wrapped"`
	// Sealed is a known value under that key.
	Sealed []byte `json:"sealed"`
}

// Contents is the first member of an archive or an escrow file, manifest.json. It says what the
// members with rows hold.
type Contents struct {
	Format       int    `json:"format"`
	Kind         Kind   `json:"kind"`
	ID           string `json:"id"`
	DeploymentID string `json:"deploymentID"`
	// Schema is as in [Manifest].
	Schema int64 `json:"schema"`
	// Fence is the least version of the master key that the database accepted. Only an archive has
	// it, and Canary.
	Fence  int     `json:"fence,omitzero"`
	Canary *Canary `json:"canary,omitzero"`
	// CurrentPepper is the id of the pepper of new password hashes. Only an escrow file has it.
	CurrentPepper string `json:"currentPepper,omitzero"`
	// Tables are in the order of their members.
	Tables []Table `json:"tables"`
}

// The tables of an escrow file.
const (
	// TableOwnerKeys is also the archive's table whose keys the escrow file holds.
	TableOwnerKeys = "owner_keys"
	// TablePeppers holds the peppers.
	TablePeppers = "peppers"
	// CanaryOwner is the owner of the first row of the escrow's owner_keys: the canary's key.
	CanaryOwner = "canary"
)

// EscrowTables returns the tables of every escrow file, in order.
func EscrowTables() []Table {
	return []Table{
		{Name: TableOwnerKeys, Columns: []Column{{"owner", Text}, {"id", Text}, {"key", Bytes}}},
		{Name: TablePeppers, Columns: []Column{{"id", Text}, {"value", Bytes}}},
	}
}

var identifier = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

// validate returns what is wrong with c, or nil.
func (c *Contents) validate() error {
	switch {
	case c.Format != Format:
		return fmt.Errorf("format is %d", c.Format)
	case !IsID(c.ID):
		return fmt.Errorf("id is not the id of a backup")
	case !isText(c.DeploymentID):
		return fmt.Errorf("deploymentID must have 1 to %d bytes of printable text", maxText)
	case c.Schema < 1:
		return fmt.Errorf("schema is %d", c.Schema)
	case c.Fence < 0:
		return fmt.Errorf("fence is %d", c.Fence)
	case len(c.Tables) < 1 || len(c.Tables) > maxTables:
		return fmt.Errorf("it has %d tables, and the limit is %d", len(c.Tables), maxTables)
	}
	switch c.Kind {
	case KindArchive:
		if c.Canary == nil || !isText(c.Canary.ID) || !isText(c.Canary.Wrapped) || len(c.Canary.Sealed) == 0 || len(c.Canary.Sealed) > maxText || c.CurrentPepper != "" {
			return fmt.Errorf("an archive needs a canary, and has no currentPepper")
		}
	case KindEscrow:
		if c.Canary != nil || c.Fence != 0 || !isText(c.CurrentPepper) {
			return fmt.Errorf("an escrow file needs currentPepper, and has neither canary nor fence")
		}
		if !slices.EqualFunc(c.Tables, EscrowTables(), Table.equal) {
			return fmt.Errorf("an escrow file has the tables %s and %s, with fixed columns", TableOwnerKeys, TablePeppers)
		}
	default:
		return fmt.Errorf("kind is neither %s nor %s", KindArchive, KindEscrow)
	}
	seen := map[string]bool{}
	for _, table := range c.Tables {
		if seen[table.Name] {
			return fmt.Errorf("table %s is listed twice", table.Name)
		}
		seen[table.Name] = true
		if err := table.validate(); err != nil {
			return err
		}
	}
	return nil
}

func (t Table) equal(other Table) bool {
	return t.Name == other.Name && slices.Equal(t.Columns, other.Columns)
}

func (t Table) validate() error {
	if !identifier.MatchString(t.Name) {
		return fmt.Errorf("a table has a name that is not of the form %s", identifier)
	}
	if len(t.Columns) < 1 || len(t.Columns) > maxColumns {
		return fmt.Errorf("table %s has %d columns, and the limit is %d", t.Name, len(t.Columns), maxColumns)
	}
	seen := map[string]bool{}
	for _, column := range t.Columns {
		switch {
		case !identifier.MatchString(column.Name):
			return fmt.Errorf("table %s has a column whose name is not of the form %s", t.Name, identifier)
		case seen[column.Name]:
			return fmt.Errorf("column %s of table %s is listed twice", column.Name, t.Name)
		case column.Type != Text && column.Type != Integer && column.Type != Bytes:
			return fmt.Errorf("column %s of table %s has an unknown type", column.Name, t.Name)
		}
		seen[column.Name] = true
	}
	return nil
}

// parseContents parses manifest.json of the file with the given name.
func parseContents(object string, raw []byte) (Contents, error) {
	if n, err := format(raw); err == nil && n > Format {
		return Contents{}, newerFormat(object, n)
	}
	var c Contents
	err := decode(raw, &c)
	if err == nil {
		err = c.validate()
	}
	if err != nil {
		refusal := damaged(object, fmt.Sprintf("%s is not as a backup writes it", contentsMember))
		refusal.Err = err
		return Contents{}, refusal
	}
	return c, nil
}
