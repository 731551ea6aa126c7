package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/reencrypt"
)

// namedDamage is how many damaged owner keys and values a message names.
const namedDamage = 10

// Damaged are the owner keys that do not unwrap and the values that do not open.
type Damaged struct {
	// Total counts all of them, and First has the first ones.
	Total int64
	First []reencrypt.Damage
	// keys counts the owner keys among them.
	keys int64
}

func (d *Damaged) add(damage reencrypt.Damage) {
	d.Total++
	if damage.Table == archive.TableOwnerKeys {
		d.keys++
	}
	if len(d.First) < namedDamage {
		d.First = append(d.First, damage)
	}
}

// String returns their number, where the first ones are, and why the first one is damaged.
func (d *Damaged) String() string {
	if d.Total == 0 {
		return "no value is damaged"
	}
	named := []string{d.First[0].Error()}
	for _, damage := range d.First[1:] {
		named = append(named, damage.Place())
	}
	if more := d.Total - int64(len(d.First)); more > 0 {
		named = append(named, fmt.Sprintf("and %d more", more))
	}
	text := "values are"
	if d.Total == 1 {
		text = "value is"
	}
	return fmt.Sprintf("%d %s damaged: %s", d.Total, text, strings.Join(named, "; "))
}

// refuse returns the refusal of a backup with damage, or nil if there is none.
func (d *Damaged) refuse(m *archive.Manifest, next string) error {
	if d.Total == 0 {
		return nil
	}
	return &archive.Refusal{Reason: ErrDamagedRows, Object: "backup " + m.ID, Cause: d.String(), Next: next}
}

// opener opens every value of an archive with the owner keys of its escrow file, and collects those
// that do not open. It reads the escrow file beside the archive, once for each table with values:
// both have their rows in the order of the owners, so that one owner's keys are in memory.
type opener struct {
	check archive.Check
	keys  *envelope.Keyring

	// escrow reports whether the identities open the escrow file.
	escrow bool
	table  *sealedTable
	stream *keyStream
	// opened counts the values that opened.
	opened  int64
	damaged Damaged
}

func newOpener(check archive.Check) *opener {
	return &opener{check: check, keys: envelope.NewKeyring(check.Manifest.Deployment.ID, nil)}
}

// row opens the values in a row. Without the keys of the escrow file it does nothing. key is the
// escrow's for a row of owner_keys.
func (o *opener) row(ctx context.Context, table archive.Table, values []any, key []byte) error {
	o.escrow = o.escrow || key != nil
	if !o.escrow {
		return nil
	}
	if o.table == nil || o.table.Name != table.Name {
		o.close()
		var err error
		if o.table, err = newSealedTable(table); err != nil {
			return err
		}
	}
	if len(o.table.sealed) == 0 {
		return nil
	}
	if o.stream == nil {
		var err error
		if o.stream, err = openKeys(ctx, o.check, o.keys); err != nil {
			return err
		}
	}
	return o.open(values)
}

// open opens the values in a row of the table.
func (o *opener) open(values []any) error {
	owner, errOwner := text(o.table.Table, values, columnOwner)
	id, errID := text(o.table.Table, values, columnID)
	keyID, errKey := text(o.table.Table, values, columnKey)
	revision, isNumber := values[o.table.revision].(int64)
	if !isNumber {
		errKey = errors.Join(errKey, fmt.Errorf("table %s: a row has no number in column %s", o.table.Name, columnRevision))
	}
	if err := errors.Join(errOwner, errID, errKey); err != nil {
		return err
	}
	keys, err := o.stream.of(owner)
	if err != nil {
		return err
	}
	key := keys[keyID]
	for _, i := range o.table.sealed {
		sealed, there := values[i].([]byte)
		if !there {
			continue
		}
		column := o.table.Columns[i].Name
		var content []byte
		err := envelope.ErrNotAuthentic // without the key
		if key != nil {
			content, err = key.Open(envelope.Place{Kind: o.table.Name, Row: id, Field: column, Revision: revision}, sealed)
		}
		if err != nil {
			o.damaged.add(reencrypt.Damage{Table: o.table.Name, Column: column, Row: id, Owner: owner, Err: err})
			continue
		}
		clear(content)
		o.opened++
	}
	return nil
}

// close closes the escrow file.
func (o *opener) close() {
	if o.stream != nil {
		o.stream.close()
		o.stream = nil
	}
}

// sealedTable says where the sealed values of a table are. Every column of bytes has such values.
type sealedTable struct {
	archive.Table
	revision int
	// sealed are the columns of the values; none in a table without values.
	sealed []int
}

func newSealedTable(table archive.Table) (*sealedTable, error) {
	t := &sealedTable{Table: table, revision: columnIndex(table, columnRevision)}
	for i, column := range table.Columns {
		if column.Type == archive.Bytes {
			t.sealed = append(t.sealed, i)
		}
	}
	needed := []int{t.revision, columnIndex(table, columnOwner), columnIndex(table, columnID), columnIndex(table, columnKey)}
	if len(t.sealed) > 0 && slices.Min(needed) < 0 {
		return nil, refuse(ErrNewerSchema, "table "+table.Name, "this release does not know how its values are sealed", "use the release that made the backup, or a later one")
	}
	return t, nil
}

// keyStream reads the owner keys of an escrow file, owner by owner.
type keyStream struct {
	keyring *envelope.Keyring
	in      io.Closer
	reader  *archive.Reader
	// owner is the one whose keys were read last, and keys has them by their ids. next is the first
	// key of a later owner; nil at the end.
	owner string
	keys  map[string]*envelope.OwnerKey
	next  *envelope.RawKey
}

// openKeys opens the escrow file of the backup.
func openKeys(ctx context.Context, check archive.Check, keyring *envelope.Keyring) (*keyStream, error) {
	want, _ := check.Manifest.File(archive.KindEscrow)
	in, _, err := check.Files.Open(ctx, archive.Name(check.Manifest.ID, archive.KindEscrow, check.Rekeyed))
	if err != nil {
		return nil, fmt.Errorf("read the escrow file again: %w", err)
	}
	reader, err := archive.Open(in, check.Identities, want, archive.KindEscrow, check.Manifest.ID, check.Rekeyed)
	if err != nil {
		in.Close()
		return nil, err
	}
	k := &keyStream{keyring: keyring, in: in, reader: reader}
	// The first key is the canary's.
	if err = k.advance(); err == nil {
		err = k.advance()
	}
	if err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}

// of returns the keys of an owner by their ids. Owners must come in ascending order.
func (k *keyStream) of(owner string) (map[string]*envelope.OwnerKey, error) {
	if k.keys != nil && owner == k.owner {
		return k.keys, nil
	}
	if owner < k.owner {
		return nil, refuse(archive.ErrDamaged, "archive", "its rows are not in the order of their owners", "use another backup")
	}
	k.owner, k.keys = owner, map[string]*envelope.OwnerKey{}
	for k.next != nil && k.next.Owner <= owner {
		if k.next.Owner == owner {
			key, err := k.keyring.Open(*k.next)
			if err != nil {
				return nil, err
			}
			k.keys[k.next.ID] = key
		}
		if err := k.advance(); err != nil {
			return nil, err
		}
	}
	return k.keys, nil
}

// advance reads the next key.
func (k *keyStream) advance() error {
	if k.next != nil {
		k.next.Clear()
		k.next = nil
	}
	table, values, err := k.reader.Next()
	if errors.Is(err, io.EOF) || err == nil && table != escrowKeys {
		return nil
	}
	if err != nil {
		return err
	}
	owner, _ := values[0].(string)
	id, _ := values[1].(string)
	raw, _ := values[2].([]byte)
	k.next = &envelope.RawKey{Owner: owner, ID: id, Raw: slices.Clone(raw)}
	return nil
}

// close closes the file.
func (k *keyStream) close() {
	if k.next != nil {
		k.next.Clear()
	}
	_ = k.reader.Close()
	_ = k.in.Close()
}
