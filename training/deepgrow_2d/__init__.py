"""models/deepgrow_2d: any structure of a slice or picture, from clicks."""
