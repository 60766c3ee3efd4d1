"""The theme: colours and sizes of all pictures."""

# Measures keep images in the size of a tile, and may not import drawings: the sizes stand there.
from ...measures.tile_shape import LARGEST_TILE_SIZE as LARGEST_TILE_SIZE
from ...measures.tile_shape import TILE_SIZE as TILE_SIZE

Colour = tuple[int, int, int]  # RGB, 0 to 255

INK: Colour = (30, 30, 30)
PAPER: Colour = (255, 255, 255)
AXES: Colour = (200, 200, 200)
GRID_LINES: Colour = (225, 225, 225)
ABSENT: Colour = (225, 225, 225)  # a cell without samples; apart from white, which is a share of 0

# Colours of opposite meaning stay at least 40 apart in CIELAB for colour-blind people too: right and wrong, blue (the
# others) and orange (the class), hit, missed and false. So none is a green, which many cannot tell from red.

# On white: of frames, lines and text.
RIGHT: Colour = (0, 130, 150)
WRONG: Colour = (200, 30, 30)
GREY: Colour = (150, 150, 150)
BLUE: Colour = (0, 100, 180)
ORANGE: Colour = (220, 95, 0)
PALE_BLUE: Colour = (150, 170, 205)
SHADE: Colour = (238, 236, 224)
# Former names of the first two, which the toolkit has exported.
GREEN: Colour = RIGHT
RED: Colour = WRONG

# On top of images, where the colours above would be too dark.
HIT: Colour = (0, 190, 220)
MISSED: Colour = (235, 35, 45)
FALSE: Colour = (255, 205, 0)
PALE: Colour = (225, 225, 240)  # of what does not count
IGNORED: Colour = (128, 128, 128)  # class colours keep away from this grey, from black and from white
NAN: Colour = (0, 0, 0)

# Charts and matrices. A card of TensorBoard is half as wide and leaves every second pixel out, so that its text is 10
# pixels high, and its lines are 3 wide.
CHART_WIDTH = 700
GAP = 12  # between a border and what is inside
TITLE_SIZE = 26
TITLE_LINE = TITLE_SIZE + 8
TEXT_SIZE = 22
TEXT_LINE = TEXT_SIZE + 8
STROKE = 7  # of a curve; its outermost pixels are blended with what is behind it

# Sheets of samples, of which the same holds.
CARD_WIDTH = 350
SHEET_WIDTH = 2 * CARD_WIDTH
SHEET_MARGIN = 8
HEADING_SIZE = 28
HEADING_LINE = HEADING_SIZE + 8
CAPTION_SIZE = 27  # its digits are 10 pixels high in a card
CAPTION_LINE = CAPTION_SIZE + 7
NOTE_SIZE = 22  # of ids, legends and notes
NOTE_LINE = NOTE_SIZE + 6
FRAME = 6  # width of frames, of boxes, of ticks and crosses

THUMBNAIL_SIZE = 64  # in the sheet of TensorBoard's projector
