# packages: pup,dash
# expect: /one
# expect: /three
# expect: "text": "second"
printf '<ul><li><a href=/one>first</a><li><a class=x href=/two>second</a><li><a href=/three>third</a></ul>' > /tmp/page
# A static program of Go's.
pup -f /tmp/page 'li a:not(.x) attr{href}'
pup -f /tmp/page '.x json{}'
