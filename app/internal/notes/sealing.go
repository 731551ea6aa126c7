package notes

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/securenotes/securenotes/app/internal/envelope"
)

// Kind names notes in their associated data. It is the name of their table, because a rotation
// derives the associated data from the schema.
const Kind = "notes"

// The sealed fields, named like their columns.
const (
	contentField = "content"
	titleField   = "title"
	tagsField    = "tags"
)

// valuesPerNote is the largest number of sealed values in a note.
const valuesPerNote = 3

func place(row, field string, revision int64) envelope.Place {
	return envelope.Place{Kind: Kind, Row: row, Field: field, Revision: revision}
}

// seal seals the text into n, whose id and revision are set.
func (t Text) seal(key *envelope.OwnerKey, n *Sealed) error {
	n.KeyID = key.ID()
	n.Content = key.Seal(place(n.ID, contentField, n.Revision), []byte(t.Content))
	n.Title, n.Tags = nil, nil
	if t.Title != "" {
		n.Title = key.Seal(place(n.ID, titleField, n.Revision), []byte(t.Title))
	}
	if len(t.Tags) > 0 {
		tags, err := json.Marshal(t.Tags)
		if err != nil {
			return fmt.Errorf("tags: %w", err)
		}
		n.Tags = key.Seal(place(n.ID, tagsField, n.Revision), tags)
	}
	return nil
}

// open returns the text that is sealed in n. Errors: envelope.ErrNotAuthentic.
func (n Sealed) open(key *envelope.OwnerKey) (Text, error) {
	content, err := key.Open(place(n.ID, contentField, n.Revision), n.Content)
	if err != nil {
		return Text{}, fmt.Errorf("content of note %s: %w", n.ID, err)
	}
	text := Text{Content: string(content)}
	if n.Title != nil {
		title, err := key.Open(place(n.ID, titleField, n.Revision), n.Title)
		if err != nil {
			return Text{}, fmt.Errorf("title of note %s: %w", n.ID, err)
		}
		text.Title = string(title)
	}
	if n.Tags != nil {
		tags, err := key.Open(place(n.ID, tagsField, n.Revision), n.Tags)
		if err != nil {
			return Text{}, fmt.Errorf("tags of note %s: %w", n.ID, err)
		}
		if json.Unmarshal(tags, &text.Tags) != nil {
			return Text{}, fmt.Errorf("tags of note %s: %w", n.ID, errors.New("not a JSON list of strings"))
		}
	}
	return text, nil
}
