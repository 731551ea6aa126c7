package httpapi_test

// choices turns bytes into decisions, so that different bytes give different requests. When the
// bytes are used up, every choice is the first one, which is always the simplest.
type choices struct{ left []byte }

// below returns a number from 0 to n-1.
func (c *choices) below(n int) int {
	if n < 2 {
		return 0
	}
	value := c.next()
	for span := 256; span < n; span *= 256 {
		value = value*256 + c.next()
	}
	return value % n
}

// oneIn returns true once in n times, and false when the bytes are used up.
func (c *choices) oneIn(n int) bool { return c.below(n) == n-1 }

func (c *choices) next() int {
	if len(c.left) == 0 {
		return 0
	}
	value := c.left[0]
	c.left = c.left[1:]
	return int(value)
}

func choose[T any](c *choices, from []T) T { return from[c.below(len(from))] }
