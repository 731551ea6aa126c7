package notes

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/securenotes/securenotes/app/internal/envelope"
)

// Kind is what notes are called in their associated data: the name of their table, so that a
// rotation that finds tables by the schema computes the same.
const Kind = "notes"

// The sealed fields, by column.
const (
	contentField = "content"
	titleField   = "title"
	tagsField    = "tags"
)

// valuesPerNote is how many sealed values a note has at the most.
const valuesPerNote = 3

// validate checks a note's limits.
func (t Text) validate() error {
	if strings.TrimSpace(t.Content) == "" || !fits(t.Content, maxContent) {
		return ErrInvalidContent
	}
	if !fits(t.Title, maxTitle) {
		return ErrInvalidTitle
	}
	if len(t.Tags) > MaxTags {
		return ErrInvalidTags
	}
	for _, tag := range t.Tags {
		if strings.TrimSpace(tag) == "" || !fits(tag, maxTag) {
			return ErrInvalidTags
		}
	}
	return nil
}

func fits(text string, most int) bool {
	return utf8.ValidString(text) && utf8.RuneCountInString(text) <= most
}

func place(row, field string, revision int64) envelope.Place {
	return envelope.Place{Kind: Kind, Row: row, Field: field, Revision: revision}
}

// seal fills the sealed fields of n, whose id and revision are set.
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
			return Text{}, fmt.Errorf("tags of note %s: %w", n.ID, errors.New("not a list"))
		}
	}
	return text, nil
}
