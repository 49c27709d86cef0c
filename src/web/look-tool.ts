/** No tool: every gesture is for looking around. */
import type { Tool } from './tool.js'

export const lookTool: Tool = {
  hint: () =>
    'Drag: crosshair. Right drag: window. Wheel: slices. Ctrl wheel: zoom. Shift drag: move. In 3-D drag turns.',
}
