package envelope

// vectors are sealed values that must always open. See TestVectors.
var vectors = map[string]struct {
	place   Place
	content string
	sealed  string
}{
	"content":   {place: Place{"notes", "row-1", "content", 3}, content: "a note", sealed: "0100000000000000000000000b856bd9b91b29432682aa005e4e6790059fada9648654"},
	"empty":     {place: Place{"notes", "row-1", "title", 1}, sealed: "0100000000000000000000000b8f648dfbc88f2140d40f3151598c54a4"},
	"not ASCII": {place: Place{"notes", "01a20900-8cde-71d1-97b7-4b869903b07a", "tags", 9007199254740993}, content: "Grüße, 世界", sealed: "0100000000000000000000000ba339746aacd3748758cd004d63603bbb232caab70642011661f2dfd4a516d7"},
}
